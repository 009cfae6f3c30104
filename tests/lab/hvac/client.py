"""Python's hvac, used as a program that knows nothing of claviger would: a session that speaks to the socket of the argument."""

import sys
from urllib.parse import quote

import hvac
import requests_unixsocket

session = requests_unixsocket.Session()
session.trust_env = False
# Without any token hvac does not ask at all whether it is authenticated; what this one says is ignored.
client = hvac.Client(url="http+unix://" + quote(sys.argv[1], safe=""), token="none", session=session)


def check(what, right):
    if not right:
        sys.exit("wrong: " + what)
    print(what)


kv = client.secrets.kv.v2
check("authenticated", client.is_authenticated())
check("kv put", kv.create_or_update_secret("py/app", {"user": "me"})["data"]["version"] == 1)
kv.patch("py/app", {"pass": "one"})
check("kv get", kv.read_secret_version("py/app", raise_on_deleted_version=True)["data"]["data"] == {"user": "me", "pass": "one"})
check("kv list", kv.list_secrets("py")["data"]["keys"] == ["app"])
check("kv metadata", kv.read_secret_metadata("py/app")["data"]["current_version"] == 2)
kv.delete_metadata_and_all_versions("py/app")
client.write_data("old/py", data={"k": "v"})
check("write and read", client.read("old/py")["data"] == {"k": "v"})
client.delete("old/py")
check("nothing there", client.read("old/py") is None)
self = client.auth.token.lookup_self()["data"]
check("token lookup", self["ttl"] > 0 and "id" not in self)
check("token renew", client.auth.token.renew_self()["auth"]["client_token"] == "")
check("health", client.sys.is_sealed() is False)
try:
    client.read("elsewhere/x")
    sys.exit("wrong: refused")
except hvac.exceptions.Forbidden as refused:
    check("refused", "workloads.job.rules" in str(refused))
print("done")
