// SPDX-License-Identifier: UNLICENSED
pragma solidity 0.8.37;

/// A recipient that, when paid, calls back once with whatever it was armed with.
contract Recipients {
    address private _target;
    bytes private _data;
    uint256 public attempts;
    uint256 public successes;
    bool public refusing;

    function arm(address target, bytes calldata data) external {
        _target = target;
        _data = data;
    }

    function refuse(bool on) external {
        refusing = on;
    }

    function run(address target, bytes calldata data) external payable {
        (bool done, bytes memory result) = target.call{value: msg.value}(data);
        if (!done) {
            assembly {
                revert(add(result, 32), mload(result))
            }
        }
    }

    receive() external payable {
        require(!refusing, "refusing");
        if (_data.length == 0) return;
        attempts += 1;
        (bool done, ) = _target.call(_data);
        if (done) successes += 1;
    }
}
