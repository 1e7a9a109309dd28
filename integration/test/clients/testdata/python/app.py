"""A small app on MSAL for Python and its extensions, against the service of the real name.

Usage: app.py VERB CACHE [COUNT]

    login   signs somebody in by device code, COUNT times
    use     asks the Resource Manager, with a token out of the cache for each account
    logout  forgets all accounts
    count   prints how many accounts the cache holds
    version
"""
import sys

import msal
import msal_extensions
import requests

SCOPES = ["https://management.azure.com/.default"]


def token(result):
    if not result or "access_token" not in result:
        sys.exit("not signed in: " + str((result or {}).get("error_description", "no token in the cache")))
    return result["access_token"]


def ask(result):
    requests.get("https://management.azure.com/subscriptions",
                 headers={"Authorization": "Bearer " + token(result)}, timeout=60).raise_for_status()


def main(verb, cache=None, count="1"):
    if verb == "version":
        import importlib.metadata
        print("msal", msal.__version__ + ", msal-extensions", importlib.metadata.version("msal-extensions"))
        return
    app = msal.PublicClientApplication(
        "00000000-0000-4000-8000-0000000000aa", authority="https://login.microsoftonline.com/organizations",
        token_cache=msal_extensions.PersistedTokenCache(msal_extensions.FilePersistence(cache)))
    if verb == "login":
        for _ in range(int(count)):
            token(app.acquire_token_by_device_flow(app.initiate_device_flow(scopes=SCOPES)))
        return
    accounts = app.get_accounts()
    if verb == "count":
        print(len(accounts))
        return
    if not accounts:
        sys.exit("not signed in: no account in the cache")
    for account in accounts:
        if verb == "logout":
            app.remove_account(account)
        else:
            ask(app.acquire_token_silent(SCOPES, account=account))


main(*sys.argv[1:])
