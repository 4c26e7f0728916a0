/** docs/errors.md, from the catalogues of reasons. */
import { CATALOGUES } from "./catalogues.ts";
import { code, markdownTable } from "./markdown-table.ts";
import { PROCESS_PROBLEMS } from "./process-problems.ts";

const INTRODUCTION = `# Errors

Generated from the catalogues by \`npm run generate\`; change those instead.

A call that fails carries a gRPC status, a sentence for people, and one \`google.rpc.ErrorInfo\` in the trailer
\`grpc-status-details-bin\`: \`domain\`, \`reason\`, \`metadata\`. Branch on domain and reason, never on the text. The gateway
gives the same in Connect's error details, and in \`error.data\` of JSON-RPC. *Retry* says whether the identical call may be
repeated; with "no" it will be refused again.

What a machine refuses in the log has the same reasons: the member that put it there passes them on to the client that asked.
`;

export function errorsPage(): string {
  const sections = CATALOGUES.map(({ title, domain, file, about, catalogue }) => {
    const rows = Object.entries(catalogue).map(([reason, { code: status, meaning, remedy, retry }]) => [
      code(reason),
      status,
      meaning,
      remedy,
      retry ? "yes" : "no",
    ]);
    const table = markdownTable(["Reason", "Status", "Meaning", "What to do", "Retry"], rows);
    return `## ${title}\n\nDomain \`${domain}\`. ${about} Source: [${code(file)}](../${file}).\n\n${table}\n`;
  });
  const problems = PROCESS_PROBLEMS.map(({ title, about, files, problems: group }) => {
    const rows = group.map(({ reason, meaning, remedy }) => [code(reason), meaning, remedy]);
    const sources = files.map((file) => `[${code(file)}](../${file})`).join(", ");
    const table = markdownTable(["Reason", "Meaning", "What to do"], rows);
    return `### ${title}\n\n${about} Source: ${sources}.\n\n${table}\n`;
  });
  return [
    INTRODUCTION,
    ...sections,
    "## Processes\n\nNot answers to calls, but words in logs and on standard error.\n",
    ...problems,
  ].join("\n");
}
