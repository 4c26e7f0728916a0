import assert from "node:assert/strict";
import test from "node:test";
import type { AbiParameter } from "viem";
import { settlementArtifact } from "./artifact.ts";
import { CompileError, compile, compileSettlement } from "./compile.ts";
import { SETTLEMENT_ABI } from "./settlement-abi.ts";

test("the committed artifact is what the sources compile to", () => {
  const compiled = compileSettlement();
  assert.equal(compiled.bytecode, settlementArtifact().bytecode);
  assert.deepEqual(JSON.parse(JSON.stringify(compiled)), settlementArtifact());
});

test("the typed interface is the compiled one", () => {
  const parameter = (entry: AbiParameter): unknown => ({
    name: entry.name ?? "",
    type: entry.type,
    indexed: "indexed" in entry ? entry.indexed === true : false,
    components: "components" in entry ? entry.components.map(parameter) : [],
  });
  const plain = (abi: readonly object[]): string[] =>
    abi
      .map((entry) =>
        JSON.stringify({
          type: "type" in entry ? entry.type : "",
          name: "name" in entry ? entry.name : "",
          stateMutability: "stateMutability" in entry ? entry.stateMutability : "",
          inputs: "inputs" in entry ? (entry.inputs as AbiParameter[]).map(parameter) : [],
          outputs: "outputs" in entry ? (entry.outputs as AbiParameter[]).map(parameter) : [],
        }),
      )
      .sort();
  assert.deepEqual(plain(SETTLEMENT_ABI), plain(settlementArtifact().abi));
});

test("what does not compile is refused with the compiler's words", () => {
  const source = (body: string): Record<string, string> => ({
    "Broken.sol": `// SPDX-License-Identifier: UNLICENSED\npragma solidity 0.8.37;\ncontract Broken { ${body} }\n`,
  });
  assert.equal(compile("Broken", source("uint256 public x;")).contractName, "Broken");
  assert.throws(() => compile("Broken", source("uint256 public x")), CompileError);
  assert.throws(() => compile("Broken", source("function f() external { uint256 unused; }")), /Warning/);
  assert.throws(() => compile("Other", source("")), /no contract|not found|Source/);
  assert.throws(
    () => compile("Broken", { "Broken.sol": 'pragma solidity 0.8.37; import "nowhere/at/all.sol";' }),
    /not found/,
  );
});
