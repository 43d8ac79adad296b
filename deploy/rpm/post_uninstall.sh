# An upgrade ends here too: the daemon is restarted after the transaction.
if [ "$1" -ge 1 ] && [ -x /usr/lib/systemd/systemd-update-helper ]; then
    /usr/lib/systemd/systemd-update-helper mark-restart-system-units peermemd.service || :
fi
