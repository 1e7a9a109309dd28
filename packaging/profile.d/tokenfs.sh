# Tells who logs in why the filesystem for token caches is not there.
case $- in *i*)
	if [ -r "${XDG_RUNTIME_DIR:-/run/user/none}/tokenfs.failed" ]; then
		tokenfs status >/dev/null || :
	fi
	;;
esac
