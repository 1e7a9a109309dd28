# The user's runtime directory, where nobody has told the shell of it.
if [ -z "${XDG_RUNTIME_DIR:-}" ] && [ -O "/run/user/$(id -u)" ]; then
	export XDG_RUNTIME_DIR="/run/user/$(id -u)"
fi
# Tells who logs in why the filesystem for token caches is not there.
case $- in *i*)
	if [ -r "${XDG_RUNTIME_DIR:-/run/user/none}/tokenfs.failed" ] && command -v tokenfs >/dev/null; then
		tokenfs status >/dev/null || :
	fi
	;;
esac
