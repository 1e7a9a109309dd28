"""Adds tokens to a cache, as one of several processes that do so at once.

Usage: update.py CACHE NAME COUNT

It prints "ready", begins when it reads a line, and prints "finished" at the end; between, the
warnings that MSAL logged, one a line.
"""
import logging
import random
import sys
import time

import msal_extensions

cache_path, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
logging.basicConfig(stream=sys.stdout, level=logging.WARNING, format="%(message)s")
cache = msal_extensions.PersistedTokenCache(msal_extensions.FilePersistence(cache_path))
print("ready", flush=True)
sys.stdin.readline()
for i in range(count):
    time.sleep(random.uniform(0, 0.4))  # else some wait for the lock longer than MSAL does
    # An access token and the app's metadata: two cycles of lock, reload and rewrite.
    cache.add({
        "client_id": "app",
        "scope": [f"{name}/{i}"],
        "token_endpoint": "https://idp.example/adfs/token",
        "response": {"access_token": f"token of {name}, {i}. " + "x" * 500, "expires_in": 3600},
    })
print("finished", flush=True)
