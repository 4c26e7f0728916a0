/**
 * Vectors: Amazon S3 API Reference, "Signature Calculations for the Authorization Header: Transferring Payload in a
 * Single Chunk (AWS Signature Version 4)", its four examples.
 */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type S3Request, s3Escape, signS3 } from "./s3-signature.ts";

const CREDENTIALS = {
  accessKeyId: "AKIAIOSFODNN7EXAMPLE",
  secretAccessKey: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
};
/** The examples' own, which nothing is sent to. */
const HOST = `https://${["examplebucket", "s3", "amazonaws", "com"].join(".")}`;
const AT = Date.parse("2013-05-24T00:00:00Z");

describe("AWS signature version 4", () => {
  const vectors: readonly [string, S3Request, string][] = [
    [
      "GET an object, a range of it",
      { method: "GET", url: new URL(`${HOST}/test.txt`), headers: { range: "bytes=0-9" } },
      "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
    ],
    [
      "PUT an object",
      {
        method: "PUT",
        url: new URL(`${HOST}/test%24file.text`),
        headers: { date: "Fri, 24 May 2013 00:00:00 GMT", "x-amz-storage-class": "REDUCED_REDUNDANCY" },
        body: new TextEncoder().encode("Welcome to Amazon S3."),
      },
      "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
    ],
    [
      "GET a bucket's lifecycle",
      { method: "GET", url: new URL(`${HOST}/?lifecycle`), headers: {} },
      "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
    ],
    [
      "list objects",
      { method: "GET", url: new URL(`${HOST}/?max-keys=2&prefix=J`), headers: {} },
      "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
    ],
  ];
  for (const [name, request, expected] of vectors) {
    test(name, () => {
      const { authorization } = signS3(request, CREDENTIALS, "us-east-1", AT);
      assert.ok(authorization?.endsWith(`Signature=${expected}`), authorization);
      assert.match(authorization ?? "", /Credential=AKIAIOSFODNN7EXAMPLE\/20130524\/us-east-1\/s3\/aws4_request,/);
    });
  }

  test("what is signed is what is sent: another method, path, header, body, day or secret signs otherwise", () => {
    const [, request] = vectors[0] ?? [];
    assert.ok(request !== undefined);
    const of = (each: S3Request, secretAccessKey = CREDENTIALS.secretAccessKey, nowMs = AT): string =>
      signS3(each, { ...CREDENTIALS, secretAccessKey }, "us-east-1", nowMs)["authorization"] ?? "";
    const signatures = [
      of(request),
      of({ ...request, method: "HEAD" }),
      of({ ...request, url: new URL(`${HOST}/test.txt2`) }),
      of({ ...request, headers: { range: "bytes=0-8" } }),
      of({ ...request, body: new Uint8Array(1) }),
      of(request, "another"),
      of(request, CREDENTIALS.secretAccessKey, AT + 1000),
    ];
    assert.equal(new Set(signatures).size, signatures.length);
    assert.ok(signatures.every((each) => !each.includes(CREDENTIALS.secretAccessKey)));
  });

  test("escapes as RFC 3986", () => {
    assert.equal(s3Escape("a b/c$*'()!~-._"), "a%20b%2Fc%24%2A%27%28%29%21~-._");
  });
});
