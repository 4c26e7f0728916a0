// SPDX-License-Identifier: UNLICENSED
pragma solidity 0.8.37;

import {Blockhash} from "@openzeppelin/contracts/utils/Blockhash.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

/// @title Settlement: where a lattice's money rests.
/// @notice Every wei here is in one of three places: the refund pool (bids paid, owed to recipients by attestation),
/// escrow (searchers' deposits, which answer for blind bids), or free (whatever else arrived: block fees, rewards,
/// plain transfers). `accounted` = refund pool + escrow, and `pay` can never reach into it, whoever signs.
/// Not a proxy, no owner, no upgrade. Signer sets change only by their own signatures.
contract Settlement is EIP712, ReentrancyGuardTransient {
    using SafeCast for uint256;

    /// @notice Attesters are tally's committee; payers are atelier's. Each rotates itself.
    enum Role {
        Attesters,
        Payers
    }

    /// @notice One blind or void bid collected from the escrow of the account that made it.
    struct Charge {
        bytes32 bidId;
        address account;
        uint256 amount;
    }

    /// @notice What the attesters sign, EIP-712; amounts in wei, `root` and `total` cumulative since the first batch.
    struct Attestation {
        bytes32 latticeId;
        uint64 batch;
        uint64 lastBlockNumber;
        bytes32 lastBlockHash;
        bytes32 root;
        uint256 total;
        Charge[] charges;
        address poster;
        uint256 posterReimbursement;
    }

    struct SignerSet {
        address[] signers;
        uint64 threshold;
        uint64 nonce;
        mapping(address => bool) member;
    }

    struct Pool {
        uint128 refunds;
        uint128 escrow;
    }

    struct Escrow {
        uint96 balance;
        uint96 leaving;
        uint64 availableAt;
    }

    struct Progress {
        uint64 batch;
        uint64 blockNumber;
    }

    struct Totals {
        uint128 attested;
        uint128 claimed;
    }

    bytes32 public constant CHARGE_TYPEHASH = keccak256("Charge(bytes32 bidId,address account,uint256 amount)");
    bytes32 public constant ATTESTATION_TYPEHASH =
        keccak256(
            "Attestation(bytes32 latticeId,uint64 batch,uint64 lastBlockNumber,bytes32 lastBlockHash,bytes32 root,uint256 total,Charge[] charges,address poster,uint256 posterReimbursement)Charge(bytes32 bidId,address account,uint256 amount)"
        );
    bytes32 public constant PAYMENT_TYPEHASH =
        keccak256("Payment(bytes32 latticeId,uint64 slot,bytes32 parentHash,address recipient,uint256 cap)");
    bytes32 public constant ROTATION_TYPEHASH =
        keccak256("RotateSigners(bytes32 latticeId,uint8 role,uint64 nonce,address[] signers,uint64 threshold)");

    uint256 public constant MAX_SIGNERS = 64;
    /// @notice Roots that claims are taken under: a claim made under one may land after the next batches.
    uint256 public constant ROOTS_KEPT = 8;
    uint256 private constant REIMBURSEMENT_GAS = 30_000;

    bytes32 public immutable latticeId;
    /// @notice Blocks between asking for escrow back and getting it: longer than a bid can be outstanding.
    uint64 public immutable withdrawalDelay;
    /// @notice Blocks an attestation waits when its block is too old for EIP-2935 (8,191 blocks) to vouch for it.
    uint64 public immutable staleDelay;

    Pool private _pool;
    Progress private _progress;
    Totals private _totals;
    /// The root of batch b stands at b % ROOTS_KEPT, until batch b + ROOTS_KEPT takes its place.
    bytes32[ROOTS_KEPT] private _roots;

    mapping(Role => SignerSet) private _sets;
    mapping(address => Escrow) private _escrows;
    mapping(address => uint256) public claimed;
    mapping(bytes32 => bool) public charged;
    mapping(uint64 => bool) public slotPaid;
    mapping(bytes32 => uint256) public stagedUntil;

    event BidPaid(uint64 indexed slot, bytes32 indexed bidId, address indexed payer, uint256 amount);
    event EscrowDeposited(address indexed account, address indexed payer, uint256 amount);
    event WithdrawalRequested(address indexed account, uint256 amount, uint64 availableAt);
    event EscrowWithdrawn(address indexed account, address indexed recipient, uint256 amount);
    event EscrowCharged(bytes32 indexed bidId, address indexed account, uint256 asked, uint256 taken);
    event AttestationStaged(uint64 indexed batch, bytes32 indexed digest, uint256 until);
    event AttestationPosted(
        uint64 indexed batch,
        uint64 lastBlockNumber,
        bytes32 lastBlockHash,
        bytes32 root,
        uint256 total,
        address poster,
        uint256 reimbursed
    );
    event Claimed(address indexed recipient, uint256 amount, uint256 lifetimeTotal);
    event ProposerPaid(uint64 indexed slot, address indexed recipient, uint256 amount);
    event SignersRotated(Role indexed role, uint64 nonce, address[] signers, uint64 threshold);

    error NoValue();
    error NothingToWithdraw();
    error WithdrawalTooEarly(uint64 availableAt);
    error AboveEscrow(uint256 asked, uint256 held);
    error WrongLattice(bytes32 given);
    error WrongBatch(uint64 given, uint64 expected);
    error BlockNotPast(uint64 blockNumber);
    error BlockGoesBack(uint64 blockNumber, uint64 last);
    error WrongBlockHash(uint64 blockNumber, bytes32 given, bytes32 actual);
    error BlockOutOfRange(uint64 blockNumber);
    error BlockInRange(uint64 blockNumber);
    error AlreadyStaged(bytes32 digest);
    error StillStaged(uint256 until);
    error TotalDecreases(uint256 given, uint256 last);
    error PoolTooSmall(uint256 owed, uint256 held);
    error AlreadyCharged(bytes32 bidId);
    error BelowThreshold(uint256 given, uint256 threshold);
    error NotASigner(address signer);
    error SignersNotAscending(address signer);
    error BadThreshold(uint256 threshold, uint256 signers);
    error BadSigner(address signer);
    error WrongProof();
    error NothingDue(address recipient);
    error AboveTotal(uint256 claimed, uint256 total);
    error SlotAlreadyPaid(uint64 slot);
    error FeesElsewhere(address coinbase);
    error WrongParent(bytes32 given, bytes32 actual);
    error AboveCap(uint256 amount, uint256 cap);
    error AboveFree(uint256 amount, uint256 free);
    error TransferFailed(address recipient);

    constructor(
        bytes32 latticeId_,
        address[] memory attesters,
        uint64 attesterThreshold,
        address[] memory payers,
        uint64 payerThreshold,
        uint64 withdrawalDelay_,
        uint64 staleDelay_
    ) EIP712("Lattice Settlement", "1") {
        latticeId = latticeId_;
        withdrawalDelay = withdrawalDelay_;
        staleDelay = staleDelay_;
        _install(Role.Attesters, attesters, attesterThreshold);
        _install(Role.Payers, payers, payerThreshold);
    }

    /// @notice Block fees, rewards and gifts: free money, counted nowhere.
    receive() external payable {}

    // ------------------------------------------------------------------------------------------------ money arriving

    /// @notice A bundle pays its bid. The money is in the refund pool from this moment on.
    function payBid(uint64 slot, bytes32 bidId) external payable {
        if (msg.value == 0) revert NoValue();
        _pool.refunds += msg.value.toUint128();
        emit BidPaid(slot, bidId, msg.sender, msg.value);
    }

    function deposit() external payable {
        _deposit(msg.sender);
    }

    function depositFor(address account) external payable {
        _deposit(account);
    }

    // ------------------------------------------------------------------------------------------------------- escrow

    /// @notice Starts the withdrawal of `amount`, replacing an earlier request; 0 cancels. Until it is withdrawn the
    /// money still answers for bids already made, but `escrowOf` no longer offers it for new ones.
    function requestWithdrawal(uint256 amount) external {
        Escrow storage escrow = _escrows[msg.sender];
        if (amount > escrow.balance) revert AboveEscrow(amount, escrow.balance);
        uint64 availableAt = uint64(block.number) + withdrawalDelay;
        escrow.leaving = uint96(amount);
        escrow.availableAt = availableAt;
        emit WithdrawalRequested(msg.sender, amount, availableAt);
    }

    /// @notice Pays out what was requested and what charges since then have left of it.
    function withdraw(address payable recipient) external nonReentrant {
        Escrow storage escrow = _escrows[msg.sender];
        uint96 amount = escrow.leaving;
        if (amount == 0) revert NothingToWithdraw();
        if (block.number < escrow.availableAt) revert WithdrawalTooEarly(escrow.availableAt);
        escrow.balance -= amount;
        escrow.leaving = 0;
        _pool.escrow -= amount;
        emit EscrowWithdrawn(msg.sender, recipient, amount);
        _send(recipient, amount);
    }

    // -------------------------------------------------------------------------------------------------- attestations

    /// @notice Takes the next batch: collects its charges, adds its root, reimburses its poster. Anyone may post.
    function post(Attestation calldata attestation, bytes[] calldata signatures) external nonReentrant {
        bytes32 digest = _checked(attestation, signatures);
        if (attestation.lastBlockNumber >= block.number) revert BlockNotPast(attestation.lastBlockNumber);
        bytes32 actual = Blockhash.blockHash(attestation.lastBlockNumber);
        if (actual == bytes32(0)) {
            uint256 until = stagedUntil[digest];
            if (until == 0) revert BlockOutOfRange(attestation.lastBlockNumber);
            if (block.number < until) revert StillStaged(until);
        } else if (actual != attestation.lastBlockHash) {
            revert WrongBlockHash(attestation.lastBlockNumber, attestation.lastBlockHash, actual);
        }

        _collect(attestation.charges);

        Totals memory totals = _totals;
        if (attestation.total < totals.attested) revert TotalDecreases(attestation.total, totals.attested);
        uint256 owed = attestation.total - totals.claimed + attestation.posterReimbursement;
        uint256 held = _pool.refunds;
        if (owed > held) revert PoolTooSmall(owed, held);

        _progress = Progress(attestation.batch, attestation.lastBlockNumber);
        _totals.attested = attestation.total.toUint128();
        _roots[attestation.batch % ROOTS_KEPT] = attestation.root;

        uint256 reimbursed = _reimburse(attestation.poster, attestation.posterReimbursement);
        emit AttestationPosted(
            attestation.batch,
            attestation.lastBlockNumber,
            attestation.lastBlockHash,
            attestation.root,
            attestation.total,
            attestation.poster,
            reimbursed
        );
    }

    /// @notice Starts the delay of an attestation whose block hash the chain no longer knows. A batch with a hash that
    /// it does know overtakes it: `batch` then no longer fits.
    function stage(Attestation calldata attestation, bytes[] calldata signatures) external {
        bytes32 digest = _checked(attestation, signatures);
        uint64 blockNumber = attestation.lastBlockNumber;
        if (blockNumber >= block.number) revert BlockNotPast(blockNumber);
        if (Blockhash.blockHash(blockNumber) != bytes32(0)) revert BlockInRange(blockNumber);
        if (stagedUntil[digest] != 0) revert AlreadyStaged(digest);
        uint256 until = block.number + staleDelay;
        stagedUntil[digest] = until;
        emit AttestationStaged(attestation.batch, digest, until);
    }

    /// @notice Pays `recipient` what is due under one of the latest roots, the newest first. Lifetime totals only grow
    /// and `claimed` keeps what was paid, so whatever the order of roots, nothing is paid twice. Anyone may call; nobody
    /// else can be paid.
    function claim(address payable recipient, uint256 lifetimeTotal, bytes32[] calldata proof) external nonReentrant {
        bytes32 leaf = keccak256(bytes.concat(keccak256(abi.encode(recipient, lifetimeTotal))));
        if (!_isRecent(MerkleProof.processProofCalldata(proof, leaf))) revert WrongProof();
        uint256 before = claimed[recipient];
        if (lifetimeTotal <= before) revert NothingDue(recipient);
        uint256 due = lifetimeTotal - before;
        Totals memory totals = _totals;
        uint256 claimedInAll = totals.claimed + due;
        if (claimedInAll > totals.attested) revert AboveTotal(claimedInAll, totals.attested);

        claimed[recipient] = lifetimeTotal;
        _totals.claimed = uint128(claimedInAll);
        _pool.refunds -= uint128(due);
        emit Claimed(recipient, due, lifetimeTotal);
        _send(recipient, due);
    }

    // ---------------------------------------------------------------------------------------------- proposer payment

    /// @notice Releases `amount` of the free money, at most `cap`, once per slot, only on top of the parent the payers
    /// signed for, and only in a block whose fees come here. Refunds and escrow are out of reach.
    function pay(
        uint64 slot,
        bytes32 parentHash,
        address payable recipient,
        uint256 cap,
        uint256 amount,
        bytes[] calldata signatures
    ) external nonReentrant {
        if (amount == 0) revert NoValue();
        if (amount > cap) revert AboveCap(amount, cap);
        if (slotPaid[slot]) revert SlotAlreadyPaid(slot);
        if (block.coinbase != address(this)) revert FeesElsewhere(block.coinbase);
        bytes32 parent = blockhash(block.number - 1);
        if (parent != parentHash) revert WrongParent(parentHash, parent);
        uint256 available = free();
        if (amount > available) revert AboveFree(amount, available);
        _requireQuorum(Role.Payers, paymentDigest(slot, parentHash, recipient, cap), signatures);

        slotPaid[slot] = true;
        emit ProposerPaid(slot, recipient, amount);
        _send(recipient, amount);
    }

    // ------------------------------------------------------------------------------------------------------- signers

    /// @notice Replaces a signer set, under the signatures of the present one. Of the roots that the old attesters
    /// signed only the newest stays, until the new ones replace it.
    function rotateSigners(
        Role role,
        address[] calldata signers,
        uint64 threshold,
        bytes[] calldata signatures
    ) external {
        SignerSet storage set = _sets[role];
        _requireQuorum(role, rotationDigest(role, set.nonce, signers, threshold), signatures);
        set.nonce += 1;
        address[] memory old = set.signers;
        for (uint256 i = 0; i < old.length; i++) set.member[old[i]] = false;
        if (role == Role.Attesters) {
            bytes32 newest = root();
            delete _roots;
            _roots[_progress.batch % ROOTS_KEPT] = newest;
        }
        _install(role, signers, threshold);
    }

    // --------------------------------------------------------------------------------------------------------- views

    /// @notice What a new bid may count on: the account's escrow less what is leaving.
    function escrowOf(address account) external view returns (uint256) {
        Escrow storage escrow = _escrows[account];
        return escrow.balance - escrow.leaving;
    }

    function escrowDetails(
        address account
    ) external view returns (uint256 balance, uint256 leaving, uint64 availableAt) {
        Escrow storage escrow = _escrows[account];
        return (escrow.balance, escrow.leaving, escrow.availableAt);
    }

    function refundPool() external view returns (uint256) {
        return _pool.refunds;
    }

    function escrowTotal() external view returns (uint256) {
        return _pool.escrow;
    }

    function accounted() public view returns (uint256) {
        Pool memory pool = _pool;
        return uint256(pool.refunds) + pool.escrow;
    }

    function free() public view returns (uint256) {
        return address(this).balance - accounted();
    }

    /// @notice The newest root; zero before the first batch.
    function root() public view returns (bytes32) {
        return _roots[_progress.batch % ROOTS_KEPT];
    }

    function lastBatch() external view returns (uint64) {
        return _progress.batch;
    }

    function lastBlockNumber() external view returns (uint64) {
        return _progress.blockNumber;
    }

    function totalAttested() external view returns (uint256) {
        return _totals.attested;
    }

    function totalClaimed() external view returns (uint256) {
        return _totals.claimed;
    }

    function signersOf(Role role) external view returns (address[] memory signers, uint64 threshold, uint64 nonce) {
        SignerSet storage set = _sets[role];
        return (set.signers, set.threshold, set.nonce);
    }

    function domainSeparator() external view returns (bytes32) {
        return _domainSeparatorV4();
    }

    function attestationDigest(Attestation calldata attestation) public view returns (bytes32) {
        Charge[] calldata charges = attestation.charges;
        bytes32[] memory hashes = new bytes32[](charges.length);
        for (uint256 i = 0; i < charges.length; i++) {
            hashes[i] = keccak256(
                abi.encode(CHARGE_TYPEHASH, charges[i].bidId, charges[i].account, charges[i].amount)
            );
        }
        return
            _hashTypedDataV4(
                keccak256(
                    abi.encode(
                        ATTESTATION_TYPEHASH,
                        attestation.latticeId,
                        attestation.batch,
                        attestation.lastBlockNumber,
                        attestation.lastBlockHash,
                        attestation.root,
                        attestation.total,
                        keccak256(abi.encodePacked(hashes)),
                        attestation.poster,
                        attestation.posterReimbursement
                    )
                )
            );
    }

    function paymentDigest(
        uint64 slot,
        bytes32 parentHash,
        address recipient,
        uint256 cap
    ) public view returns (bytes32) {
        return _hashTypedDataV4(keccak256(abi.encode(PAYMENT_TYPEHASH, latticeId, slot, parentHash, recipient, cap)));
    }

    function rotationDigest(
        Role role,
        uint64 nonce,
        address[] calldata signers,
        uint64 threshold
    ) public view returns (bytes32) {
        return
            _hashTypedDataV4(
                keccak256(
                    abi.encode(
                        ROTATION_TYPEHASH,
                        latticeId,
                        role,
                        nonce,
                        keccak256(abi.encodePacked(signers)),
                        threshold
                    )
                )
            );
    }

    // ------------------------------------------------------------------------------------------------------- private

    function _deposit(address account) private {
        if (msg.value == 0) revert NoValue();
        _escrows[account].balance += msg.value.toUint96();
        _pool.escrow += msg.value.toUint128();
        emit EscrowDeposited(account, msg.sender, msg.value);
    }

    /// Lattice, batch order and signatures: what posting and staging have in common.
    function _checked(
        Attestation calldata attestation,
        bytes[] calldata signatures
    ) private view returns (bytes32 digest) {
        if (attestation.latticeId != latticeId) revert WrongLattice(attestation.latticeId);
        Progress memory progress = _progress;
        if (attestation.batch != progress.batch + 1) revert WrongBatch(attestation.batch, progress.batch + 1);
        if (attestation.lastBlockNumber < progress.blockNumber) {
            revert BlockGoesBack(attestation.lastBlockNumber, progress.blockNumber);
        }
        digest = attestationDigest(attestation);
        _requireQuorum(Role.Attesters, digest, signatures);
    }

    /// Escrow to refund pool, each bid once, at most what the account holds.
    function _collect(Charge[] calldata charges) private {
        uint256 collected = 0;
        for (uint256 i = 0; i < charges.length; i++) {
            Charge calldata charge = charges[i];
            if (charged[charge.bidId]) revert AlreadyCharged(charge.bidId);
            charged[charge.bidId] = true;
            Escrow storage escrow = _escrows[charge.account];
            uint96 balance = escrow.balance;
            uint96 taken = charge.amount < balance ? uint96(charge.amount) : balance;
            escrow.balance = balance - taken;
            if (escrow.leaving > balance - taken) escrow.leaving = balance - taken;
            collected += taken;
            emit EscrowCharged(charge.bidId, charge.account, charge.amount, taken);
        }
        if (collected != 0) {
            _pool.escrow -= uint128(collected);
            _pool.refunds += uint128(collected);
        }
    }

    /// A poster that cannot be paid does not hold up the batch: the money stays in the pool, owed to nobody.
    function _reimburse(address poster, uint256 amount) private returns (uint256) {
        if (amount == 0) return 0;
        _pool.refunds -= uint128(amount);
        (bool sent, ) = poster.call{value: amount, gas: REIMBURSEMENT_GAS}("");
        if (sent) return amount;
        _pool.refunds += uint128(amount);
        return 0;
    }

    /// The newest first: most claims are made under it.
    function _isRecent(bytes32 given) private view returns (bool) {
        uint256 newest = uint256(_progress.batch) + ROOTS_KEPT;
        for (uint256 i = 0; i < ROOTS_KEPT; i++) {
            if (_roots[(newest - i) % ROOTS_KEPT] == given) return true;
        }
        return false;
    }

    function _requireQuorum(Role role, bytes32 digest, bytes[] calldata signatures) private view {
        SignerSet storage set = _sets[role];
        if (signatures.length < set.threshold) revert BelowThreshold(signatures.length, set.threshold);
        address previous = address(0);
        for (uint256 i = 0; i < signatures.length; i++) {
            address signer = ECDSA.recoverCalldata(digest, signatures[i]);
            if (!set.member[signer]) revert NotASigner(signer);
            if (signer <= previous) revert SignersNotAscending(signer);
            previous = signer;
        }
    }

    /// More than half, so that two disjoint quorums cannot exist.
    function _install(Role role, address[] memory signers, uint64 threshold) private {
        uint256 count = signers.length;
        if (count == 0 || count > MAX_SIGNERS || threshold > count || uint256(threshold) * 2 <= count) {
            revert BadThreshold(threshold, count);
        }
        SignerSet storage set = _sets[role];
        address previous = address(0);
        for (uint256 i = 0; i < count; i++) {
            if (signers[i] <= previous) revert BadSigner(signers[i]);
            set.member[signers[i]] = true;
            previous = signers[i];
        }
        set.signers = signers;
        set.threshold = threshold;
        emit SignersRotated(role, set.nonce, signers, threshold);
    }

    function _send(address payable recipient, uint256 amount) private {
        (bool sent, ) = recipient.call{value: amount}("");
        if (!sent) revert TransferFailed(recipient);
    }
}
