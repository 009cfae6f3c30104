// node-vault, used as a program that knows nothing of claviger would: the address and the token that it is given.
const fs = require("fs");
const vault = require("node-vault")({
  endpoint: process.env.VAULT_ADDR,
  token: fs.readFileSync(process.argv[2], "utf8"),
});

function check(what, right) {
  if (!right) throw new Error("wrong: " + what);
  console.log(what);
}

async function main() {
  const written = await vault.write("secret/data/js/app", { data: { user: "me" } });
  check("write", written.data.version === 1);
  const read = await vault.read("secret/data/js/app");
  check("read", read.data.data.user === "me");
  const listed = await vault.list("secret/metadata/js");
  check("list", listed.data.keys.length === 1);
  await vault.delete("secret/metadata/js/app");
  const self = await vault.tokenLookupSelf();
  check("token lookup", self.data.ttl > 0 && self.data.id === undefined);
  check("health", (await vault.health()).sealed === false);
  const refused = await vault.read("elsewhere/x").catch((error) => error.response.statusCode);
  check("refused", refused === 403);
  console.log("done");
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
