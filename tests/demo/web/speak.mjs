// Writes typed questions as spoken.js reads them: a list of texts from standard input, a list of texts to standard output.
import { readFileSync } from "node:fs";
import { spokenQuestion } from "../../../spaces_demo/web/static/spoken.js";

process.stdout.write(JSON.stringify(JSON.parse(readFileSync(0, "utf-8")).map(spokenQuestion)));
