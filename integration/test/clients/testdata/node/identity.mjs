// A small app on Azure Identity for Node with its persistent cache, which
// chooses the place by itself: ~/.IdentityService.
//
// Usage: node identity.mjs VERB RECORD: login, use or version. RECORD is where
// the app remembers who signed in; there is no token in it.

import { createRequire } from "node:module";
import { readFileSync, writeFileSync } from "node:fs";

const require = createRequire(process.env.MODULES + "/");
const identity = require("@azure/identity");
const { cachePersistencePlugin } = require("@azure/identity-cache-persistence");

const [verb, record] = process.argv.slice(2);
const scope = "https://management.azure.com/.default";

function version(name) {
  return name + " " + JSON.parse(readFileSync(`${process.env.MODULES}/node_modules/${name}/package.json`)).version;
}

async function main() {
  if (verb === "version") {
    console.log([version("@azure/identity"), version("@azure/identity-cache-persistence")].join(", "));
    return;
  }
  identity.useIdentityPlugin(cachePersistencePlugin);
  const options = {
    clientId: "00000000-0000-4000-8000-0000000000cc",
    tokenCachePersistenceOptions: { enabled: true, name: "tests", unsafeAllowUnencryptedStorage: true },
    userPromptCallback: () => {},
    disableAutomaticAuthentication: verb !== "login",
  };
  if (verb === "use") options.authenticationRecord = identity.deserializeAuthenticationRecord(readFileSync(record, "utf8"));
  const credential = new identity.DeviceCodeCredential(options);
  if (verb === "login") writeFileSync(record, identity.serializeAuthenticationRecord(await credential.authenticate(scope)));
  const { token } = await credential.getToken(scope);
  const answer = await fetch(`https://${process.env.SERVICE}/subscriptions`, { headers: { Authorization: "Bearer " + token } });
  if (!answer.ok) throw new Error("the Resource Manager says " + answer.status);
}

main().catch((e) => {
  console.error(String(e));
  process.exit(1);
});
