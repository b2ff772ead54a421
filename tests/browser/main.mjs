// The cases, one after the other, in one browser; BROWSER_PARTS="journey many" chooses some.
import { failed, launch, stopAll } from "./harness.mjs";
import { files } from "./files.mjs";
import { journey } from "./journey.mjs";
import { many } from "./many.mjs";
import { refusals } from "./refusals.mjs";

const browser = await launch();
const parts = { journey, files, refusals, many };
const chosen = (process.env.BROWSER_PARTS || Object.keys(parts).join(" ")).split(" ");
for (const name of chosen) await parts[name](browser);
await browser.close();
stopAll();
process.exitCode = failed() ? 1 : 0;
