"""msal_cache.py save|find CACHE: what an MSAL application does with its token cache.

save adds a token the way a sign-in does; find prints the ones a fresh process sees.
"""
import sys
from msal_extensions import FilePersistence, PersistedTokenCache

verb, path = sys.argv[1:]
cache = PersistedTokenCache(FilePersistence(path))
if verb == "save":
    cache.add({
        "client_id": "vm-test",
        "scope": ["User.Read"],
        "token_endpoint": "https://login.example/tenant/oauth2/v2.0/token",
        "response": {"access_token": "a-token-of-the-vm", "expires_in": 3600, "token_type": "Bearer"},
    })
for token in cache.find(cache.CredentialType.ACCESS_TOKEN):
    print(token["secret"])
