// A small app on MSAL for Node and its extensions.
//
// Usage: node app.mjs VERB CACHE [COUNT], with the verbs of app.py, and the
// address of the service in SERVICE: this MSAL knows no proxy.

import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const require = createRequire(process.env.MODULES + "/");
const { PublicClientApplication } = require("@azure/msal-node");

const service = process.env.SERVICE;
const tenant = "organizations";
const scopes = ["https://management.azure.com/.default"];
const [verb, cache, count = "1"] = process.argv.slice(2);

function version(name) {
  return name + " " + JSON.parse(readFileSync(`${process.env.MODULES}/node_modules/${name}/package.json`)).version;
}

async function ask(token) {
  const answer = await fetch(`https://${service}/subscriptions`, { headers: { Authorization: "Bearer " + token } });
  if (!answer.ok) throw new Error("the Resource Manager says " + answer.status);
}

// The extensions' entry point loads keytar, for the stores that are not files.
async function persisted() {
  const { FilePersistence, PersistenceCachePlugin } = require("@azure/msal-node-extensions");
  return new PersistenceCachePlugin(await FilePersistence.create(cache));
}

async function main() {
  if (verb === "version") {
    require("@azure/msal-node-extensions");
    console.log([version("@azure/msal-node"), version("@azure/msal-node-extensions"), "Node " + process.version].join(", "));
    return;
  }
  const app = new PublicClientApplication({
    auth: { clientId: "00000000-0000-4000-8000-0000000000bb", authority: `https://${service}/${tenant}`, knownAuthorities: [service] },
    cache: { cachePlugin: await persisted() },
  });
  if (verb === "login") {
    for (let i = 0; i < Number(count); i++)
      await app.acquireTokenByDeviceCode({ scopes, deviceCodeCallback: () => {} });
    return;
  }
  const accounts = await app.getTokenCache().getAllAccounts();
  if (verb === "count") {
    console.log(accounts.length);
    return;
  }
  if (accounts.length === 0) throw new Error("not signed in: no account in the cache");
  for (const account of accounts) {
    if (verb === "logout") await app.getTokenCache().removeAccount(account);
    else await ask((await app.acquireTokenSilent({ account, scopes })).accessToken);
  }
}

main().catch((e) => {
  console.error(String(e));
  process.exit(1);
});
