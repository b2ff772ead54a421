// The cases, one after the other, in one browser.
import { failed, launch } from "./harness.mjs";
import { journey } from "./journey.mjs";
import { many } from "./many.mjs";
import { refusals } from "./refusals.mjs";

const browser = await launch();
for (const part of [journey, refusals, many]) await part(browser);
await browser.close();
process.exitCode = failed() ? 1 : 0;
