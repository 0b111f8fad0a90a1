// Opens a sheet of `lorabake tags --sheet` in headless Chromium without a network, at desktop and phone width, light and
// dark; uses the filter by mouse and keyboard; prints what axe finds, console errors and requests, and fails for any.
//
//   npm install playwright-core axe-core        (anywhere; run the script from that folder)
//   CHROMIUM=/usr/bin/chromium-headless-shell node .../tests/browser/check_sheet.mjs SHEET.html SCREENSHOT-FOLDER
import { createRequire } from "node:module";
import { mkdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";

const require = createRequire(path.join(process.cwd(), "x.js"));
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const [sheet, folder] = process.argv.slice(2).map((each) => path.resolve(each));
mkdirSync(folder, { recursive: true });

const faults = [];
const expect = (said, right) => { if (!right) faults.push(said); };
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: ["--no-sandbox", "--disable-dev-shm-usage"] });

for (const [name, viewport] of [["desktop", { width: 1440, height: 900 }], ["phone", { width: 390, height: 844 }]]) {
  for (const colorScheme of ["light", "dark"]) {
    const context = await browser.newContext({ viewport, colorScheme, offline: true, bypassCSP: false });
    const page = await context.newPage();
    const where = `${name} ${colorScheme}`;
    page.on("console", (each) => { if (["error", "warning"].includes(each.type())) faults.push(`${where}: console: ${each.text()}`); });
    page.on("pageerror", (error) => faults.push(`${where}: ${error}`));
    page.on("request", (each) => { if (!/^(file|data):/.test(each.url())) faults.push(`${where}: request: ${each.url()}`); });
    const begun = Date.now();
    await page.goto(pathToFileURL(sheet).href);
    await page.waitForSelector("html.ready");
    const opened = Date.now() - begun;
    await page.waitForTimeout(300);
    await page.screenshot({ path: path.join(folder, `${name}-${colorScheme}.png`) });

    const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    expect(`${where}: ${wide} pixels wider than the window`, wide <= 0);
    const cards = await page.locator(".card").count();
    expect(`${where}: no images`, cards > 0);

    await page.keyboard.press("/");
    const word = await page.evaluate(() => [...document.querySelectorAll("[data-tag]")].at(-1)?.dataset.tag ?? "");
    await page.keyboard.type(word);
    await page.waitForTimeout(250);
    const filtered = await page.locator(".card:not([hidden])").count();
    expect(`${where}: filter "${word}" shows ${filtered} of ${cards}`, filtered > 0 && filtered <= cards);
    await page.screenshot({ path: path.join(folder, `${name}-${colorScheme}-filter.png`) });
    await page.keyboard.press("Escape");
    expect(`${where}: Escape shows all`, (await page.locator(".card:not([hidden])").count()) === cards);
    await page.evaluate(() => document.activeElement.blur());
    await page.keyboard.press("j");
    await page.keyboard.press("j");
    expect(`${where}: j goes to the next image`, await page.evaluate(
      () => document.activeElement === [...document.querySelectorAll(".card")].slice(0, 2).at(-1),
    ));
    await page.waitForTimeout(200);
    await page.screenshot({ path: path.join(folder, `${name}-${colorScheme}-scrolled.png`) });

    const results = await page.evaluate(`${axe}\naxe.run(document, { resultTypes: ["violations"] })`);
    for (const each of results.violations) {
      const said = `${where}: axe: ${each.impact}: ${each.id} (${each.nodes.length}): ${each.nodes[0].html.slice(0, 160)}`;
      console.log(said, each.nodes[0].failureSummary?.split("\n").slice(1, 3).join(" ") ?? "");
      if (["serious", "critical"].includes(each.impact)) faults.push(said);
    }
    console.log(`${where}: ${cards} images, open in ${opened} ms, axe ${results.violations.length} violations`);
    if (name === "desktop" && colorScheme === "light" && cards < 300) {
      await page.emulateMedia({ media: "print" });
      await page.pdf({ path: path.join(folder, "print.pdf"), format: "A4" }).catch(() => {});
      await page.screenshot({ path: path.join(folder, "print.png") });
    }
    await context.close();
  }
}
await browser.close();
for (const fault of faults) console.error(`FAULT ${fault}`);
console.log(faults.length ? `${faults.length} faults` : "no faults");
process.exit(faults.length ? 1 : 0);
