// race.py, in MSAL's extensions for Node. They ask for the size of the file and read as
// much: a load that took longer than two seconds may be cut off, and is not judged.

import { createRequire } from "node:module";

const require = createRequire(process.env.MODULES + "/");
const { FilePersistence } = require("@azure/msal-node-extensions");
const [verb, path, count] = process.argv.slice(2);

const version = (n) => `${n}:${"x".repeat(500 + ((n * 7919) % 60000))}:${n}`;

async function main() {
  const cache = await FilePersistence.create(path);
  if (verb === "save") {
    let over = false;
    process.stdin.resume().on("end", () => (over = true));
    for (let n = 1; !over; n++) {
      await cache.save(version(n));
      await new Promise((next) => setTimeout(next, 2));
    }
    return;
  }
  let [empty, halves, versions, last, why] = [0, 0, 0, 0, ""];
  for (let i = 0; i < Number(count); i++) {
    const start = performance.now();
    const got = await cache.load();
    const n = Number(/^[0-9]+/.exec(got)?.[0] ?? NaN);
    if (got === "") empty++;
    else if (got !== version(n)) {
      const took = performance.now() - start;
      if (took < 2000) halves++;
      why += `; ${got.length} bytes of ${version(n).length} in ${took} ms`;
    }
    else if (n !== last) [versions, last] = [versions + 1, n];
  }
  console.log(empty, halves, versions, why);
}

main().catch((e) => {
  console.error(String(e));
  process.exit(1);
});
