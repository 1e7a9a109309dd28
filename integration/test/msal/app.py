"""A small app on Debian's own MSAL Python, as its documentation says to write one.

Usage: app.py CACHE   and one command a line on standard input:

    login USER   signs USER in by device code
    show         lists who is signed in, from the cache, and a digest of each token
    secrets      prints the tokens of this app's last login
    quit

Only the identity provider is made up: MSAL is given an HTTP client, as it
allows, that answers out of this process, so that nothing leaves the machine.
"""
import base64
import hashlib
import json
import secrets
import sys
import time

import msal
import msal_extensions

CLIENT_ID = "00000000-0000-4000-8000-000000000001"
AUTHORITY = "https://idp.example/adfs"
SCOPES = ["https://graph.example/.default"]


class Provider:
    """The identity provider, instead of a network connection to one."""

    def __init__(self):
        self.user = None
        self.issued = []

    def get(self, url, **_):
        return Response({
            "issuer": AUTHORITY,
            "authorization_endpoint": AUTHORITY + "/authorize",
            "token_endpoint": AUTHORITY + "/token",
            "device_authorization_endpoint": AUTHORITY + "/devicecode",
        })

    def post(self, url, data=None, **_):
        if url.endswith("/devicecode"):
            return Response({"device_code": secrets.token_urlsafe(), "user_code": "TOKEN-FS",
                             "verification_uri": AUTHORITY, "expires_in": 60, "interval": 1,
                             "message": ""})
        now = int(time.time())
        user = self.user
        if data and data.get("grant_type") == "refresh_token":
            user = data["refresh_token"].partition(".")[0]
            print("refreshed:", user)
        self.issued = [jwt({"sub": user, "jti": secrets.token_hex(16)}), f"{user}.{secrets.token_urlsafe(900)}"]
        return Response({
            "token_type": "Bearer", "expires_in": 3600, "scope": " ".join(SCOPES),
            "access_token": self.issued[0],
            "refresh_token": self.issued[1],
            "id_token": jwt({"iss": AUTHORITY, "aud": CLIENT_ID, "iat": now, "exp": now + 3600,
                             "sub": user, "oid": user, "preferred_username": user}),
            "client_info": b64({"uid": user, "utid": "tenant"}),
        })

    def close(self):
        pass


class Response:
    status_code = 200
    headers = {}

    def __init__(self, body):
        self.text = json.dumps(body)

    def raise_for_status(self):
        pass


def b64(value):
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def jwt(claims):
    return ".".join([b64({"typ": "JWT", "alg": "RS256"}), b64(claims), b64(secrets.token_bytes(256))])


def main():
    cache = msal_extensions.PersistedTokenCache(msal_extensions.FilePersistence(sys.argv[1]))
    provider = Provider()
    app = msal.PublicClientApplication(CLIENT_ID, authority=AUTHORITY, token_cache=cache, http_client=provider)
    print("ready", flush=True)
    for line in sys.stdin:
        command, _, argument = line.strip().partition(" ")
        if command == "login":
            provider.user = argument
            result = app.acquire_token_by_device_flow(app.initiate_device_flow(scopes=SCOPES))
            print("signed in:" if "access_token" in result else "failed:", argument)
        elif command == "show":
            for account in sorted(app.get_accounts(), key=lambda a: a["username"]):
                result = app.acquire_token_silent(SCOPES, account=account)
                token = (result or {}).get("access_token", "")
                print(account["username"], hashlib.sha256(token.encode()).hexdigest()[:16] if token else "no token")
        elif command == "secrets":
            for secret in provider.issued:
                print(secret)
        elif command == "quit":
            return
        else:
            print("unknown command:", command)
        print("done", flush=True)


main()
