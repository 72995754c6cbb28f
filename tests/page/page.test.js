// The status page in Chromium: as it is drawn, as it is used without a mouse, and as axe-core judges it.
"use strict";
const assert = require("node:assert/strict");
const { spawn } = require("node:child_process");
const { mkdtempSync, readFileSync, readdirSync, rmSync, mkdirSync, statSync } = require("node:fs");
const http = require("node:http");
const { tmpdir } = require("node:os");
const { join } = require("node:path");
const { after, before, describe, it } = require("node:test");
const { chromium } = require("playwright-core");

const ROOT = join(__dirname, "../..");
const BINARY = join(ROOT, "target/debug/sentinel-connector");
const PAGES = process.env.STATUS_PAGES;
const PICTURES = process.env.PICTURES;
const AXE = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const KEY = "canary-key";

/** What each state has to say. */
const SAYS = {
  well: ["All is well", "✓ well"],
  behind: ["Nothing to do; not well: 1 of 1 streams", "◆ behind"],
  failed: ["1 thing needs somebody", "▲ failed", "check the password"],
  off: ["1 thing needs somebody", "▲ off"],
  gap: ["Nothing to do", "◆ gap", "the feed was lost"],
  "full-outbox": ["1 thing needs somebody", "nothing more is pulled until SentinelPush"],
  nothing: ["Nothing pulled yet", "not run yet"],
  "no-stream": ["No stream is switched on"],
  hostile: ["<script>document.title='broken'</script>"],
  many: ["Jump to one of 40 connections"],
  pictured: ["SecurityAlert.Read.All", "Cost in 24 h", "12"],
};

let browser, server, address;
const started = [];

/** Serves the pages as the Functions host does: with the headers of the answer, behind a key. */
function serve() {
  server = http.createServer((request, response) => {
    const url = new URL(request.url, "http://127.0.0.1");
    if (url.pathname !== "/api/Status") return response.writeHead(404).end();
    const page = JSON.parse(readFileSync(join(PAGES, `${url.searchParams.get("state")}.json`)));
    response.setHeader("Content-Type", "text/html; charset=utf-8");
    response.setHeader("Content-Security-Policy", page.policy);
    response.end(page.html);
  });
  return new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(server.address().port)));
}

/** Starts the binary in a folder of its own, and comes back with the address of its page. */
function start(args, settings) {
  const folder = mkdtempSync(join(tmpdir(), "status-page-"));
  const env = { PATH: process.env.PATH, CONNECTOR_DATA: join(folder, "data"), ...settings };
  const child = spawn(BINARY, args, { cwd: folder, env });
  started.push({ child, folder });
  return new Promise((resolve, reject) => {
    let printed = "";
    const take = (text) => {
      printed += text;
      const found = /The status page is at (\S+)/.exec(printed);
      if (found) resolve(found[1]);
    };
    child.stdout.on("data", take);
    child.stderr.on("data", take);
    child.on("exit", (code) => reject(new Error(`${args.join(" ")} ended with ${code}: ${printed}`)));
  });
}

before(async () => {
  address = `http://127.0.0.1:${await serve()}`;
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM,
    // A container has no user namespaces; the only pages are ours.
    args: ["--no-sandbox"],
  });
});

after(async () => {
  await browser?.close();
  server?.close();
  for (const { child, folder } of started) {
    if (child.exitCode === null && child.signalCode === null) {
      child.removeAllListeners("exit");
      const gone = new Promise((resolve) => child.once("exit", resolve));
      child.kill("SIGKILL");
      await gone;
    }
    rmSync(folder, { recursive: true, force: true });
  }
});

/** Opens an address; whatever the browser complains of is an error. */
async function open(url, { width = 1280, scheme = "light", script = true, bypassCSP = false } = {}) {
  const context = await browser.newContext({
    viewport: { width, height: 900 },
    colorScheme: scheme,
    javaScriptEnabled: script,
    bypassCSP,
  });
  const page = await context.newPage();
  const complaints = [];
  page.on("console", (message) => complaints.push(message.text()));
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("request", (request) => {
    if (request.url() !== url) complaints.push(`asks for ${request.url()}`);
  });
  const answer = await page.goto(url);
  assert.equal(answer.status(), 200);
  return { page, context, complaints, answer };
}

const of = (state) => `${address}/api/Status?code=${KEY}&state=${state}`;

/** No violation, of any rule. */
async function judged(page, what) {
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() =>
    axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] }),
  );
  const told = violations.map((one) => `${one.id}: ${one.nodes.map((node) => node.html.slice(0, 200)).join("; ")}`);
  assert.deepEqual(told, [], what);
}

const LOOKS = [[360, "dark"], [360, "light"], [1280, "dark"], [1280, "light"]];

describe("each state", () => {
  for (const [place, [state, texts]] of Object.entries(SAYS).entries()) {
    it(`${state} is told and drawn at each width and in each colour, without a script`, async () => {
      const { page, context, complaints } = await open(of(state), { script: false });
      for (const [width, scheme] of LOOKS) {
        await page.setViewportSize({ width, height: 900 });
        await page.emulateMedia({ colorScheme: scheme });
        // Closed parts count: a reader opens them.
        const seen = await page.locator("body").evaluate((body) => {
          const badges = [...body.querySelectorAll(".badge")].map((badge) => {
            const mark = getComputedStyle(badge, "::before").content;
            return `${mark === "none" ? "" : mark.split('"')[1]}${badge.textContent}`;
          });
          const back = getComputedStyle(body).backgroundColor;
          return { text: `${body.textContent}\n${badges.join("\n")}`, back, wide: document.documentElement.scrollWidth };
        });
        for (const says of texts) assert.ok(seen.text.includes(says), `${state}: ${says}`);
        assert.ok(seen.wide <= width, `${state} is ${seen.wide} wide at ${width}`);
        assert.equal(seen.back, scheme === "dark" ? "rgb(20, 23, 26)" : "rgb(255, 255, 255)");
      }
      assert.notEqual(await page.title(), "broken");
      assert.deepEqual(complaints, [], state);
      await context.close();
    });

    // `many` has the parts of `pictured`, and axe-core needs a minute for all of them.
    it(`${state} has no barrier that axe-core knows`, { skip: state === "many" }, async () => {
      const { page, context } = await open(of(state), { bypassCSP: true });
      await page.evaluate(() => document.querySelectorAll("details").forEach((it) => (it.open = true)));
      const looks = state === "pictured" ? [LOOKS[0], LOOKS[3]] : [LOOKS[place % LOOKS.length]];
      for (const [width, scheme] of looks) {
        await page.setViewportSize({ width, height: 900 });
        await page.emulateMedia({ colorScheme: scheme });
        await judged(page, `${state} at ${width}, ${scheme}`);
      }
      await context.close();
    });
  }
});

describe("the page in use", () => {
  it("is gone through with the keyboard alone, and without a script", async () => {
    const { page, context, complaints } = await open(of("pictured"), { script: false });
    await page.keyboard.press("Tab");
    const focused = () => page.evaluate(() => document.activeElement.textContent || document.activeElement.id);
    assert.equal(await focused(), "Skip to the streams");
    await page.keyboard.press("Enter");
    const visible = () => page.locator(".streams tbody th[scope=row]:visible").count();
    assert.equal(await visible(), 7);
    await page.keyboard.press("Tab");
    assert.equal(await focused(), "show-all");
    for (const [id, rows] of [["show-act", 1], ["show-news", 3], ["show-all", 7]]) {
      await page.keyboard.press("ArrowDown");
      assert.equal(await focused(), id);
      assert.equal(await visible(), rows, id);
    }
    await page.keyboard.press("ArrowDown");
    const more = page.locator("summary", { hasText: "More about defender.alerts" });
    await more.focus();
    await page.keyboard.press("Enter");
    assert.ok(await page.getByText("last run ended").first().isVisible());
    assert.deepEqual(complaints, []);
    await context.close();
  });

  it("jumps within the page only, and shows its key nowhere", async () => {
    const { page, context, complaints, answer } = await open(of("many"), { script: false });
    assert.ok(!(await answer.text()).includes(KEY));
    await page.locator(".index summary").click();
    const link = page.locator(".index a").last();
    const name = await link.textContent();
    await link.click();
    assert.ok(new URL(page.url()).hash.startsWith("#c"));
    assert.ok(await page.locator("details:target h3", { hasText: name }).isVisible());
    assert.deepEqual(complaints, []);
    await context.close();
  });

  it("says in words that no stream is as asked for", async () => {
    const { page, context } = await open(of("well"), { script: false });
    assert.ok(!(await page.getByText("No stream is so.").isVisible()));
    await page.locator("#show-act").check();
    assert.ok(await page.getByText("No stream is so.").isVisible());
    await context.close();
  });
});

describe("the real server", () => {
  it("shows the demo, with rows in its charts", async () => {
    const url = await start(["demo", "--keep"], {});
    const { page, context, complaints, answer } = await open(url);
    assert.match(answer.headers()["content-security-policy"], /^default-src 'none'; style-src 'sha256-/);
    assert.ok(await page.getByRole("heading", { name: "All is well" }).isVisible());
    assert.ok((await page.locator(".streams tbody th[scope=row]").count()) > 5);
    assert.match(await page.getByRole("img", { name: "Rows, Last 24 hours: most" }).getAttribute("aria-label"), /most [1-9]/);
    assert.deepEqual(complaints, []);
    const json = await (await fetch(`${url}?format=json`)).json();
    assert.equal(json.well, true);
    await context.close();
  });

  it("shows a service that is away first as nothing pulled, and then as failed", async () => {
    const url = await start(["run", "--watch", "--status", "127.0.0.1:0"], {
      ESET_REGION: "eu", ESET_LOGIN: "reader@contoso.example", ESET_PASSWORD: "canary-password",
      ESET_URL_TEMPLATE: "http://127.0.0.1:9/{region}/{domain}", RUN_BUDGET_SECONDS: "5",
    });
    const { page, context, complaints } = await open(url);
    assert.ok(await page.getByRole("heading", { name: "Nothing pulled yet" }).isVisible());
    // Until its run has ended: the budget is its end.
    const failed = () => page.getByRole("heading", { name: "1 thing needs somebody" }).isVisible();
    while (!(await failed())) await page.reload();
    assert.ok(!(await page.content()).includes("canary-password"));
    assert.deepEqual(complaints, []);
    await context.close();
    const bare = await open(url, { bypassCSP: true });
    await judged(bare.page, "failed");
    await bare.context.close();
  });
});

describe("pictures", { skip: !PICTURES }, () => {
  for (const [name, options] of [
    ["status", { width: 1280, scheme: "light" }],
    ["status-phone", { width: 360, scheme: "dark" }],
  ]) {
    it(`${name} is drawn for the docs`, async () => {
      mkdirSync(PICTURES, { recursive: true });
      const { page, context } = await open(of("pictured"), { ...options, script: false });
      const path = join(PICTURES, `${name}.png`);
      const height = options.width === 360 ? 1200 : 1000;
      await page.screenshot({ path, clip: { x: 0, y: 0, width: options.width, height }, fullPage: true });
      assert.ok(statSync(path).size < 150_000, `${path} is too large`);
      await context.close();
    });
  }
});

it("every state was written, and none is left out", () => {
  const written = readdirSync(PAGES).map((file) => file.replace(".json", ""));
  assert.deepEqual(written.sort(), Object.keys(SAYS).sort());
});
