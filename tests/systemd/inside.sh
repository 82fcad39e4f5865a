#!/bin/bash
# Runs inside a container whose init is a real systemd: installs the package in /deb, runs the service as
# its unit says, and removes it again. Says `passed` at the end, or where it failed.
set -eEuo pipefail
exec >/out/log 2>&1
trap 'echo "failed in line $LINENO: $BASH_COMMAND"; systemctl --no-pager status twilio-call-exporter; journalctl --no-pager -u twilio-call-exporter -n 40; systemctl poweroff --force' ERR

unit=twilio-call-exporter
show() { systemctl show -P "$1" "$unit"; }
get() { exec 3<>/dev/tcp/127.0.0.1/10914; printf 'GET %s HTTP/1.0\r\n\r\n' "$1" >&3; cat <&3; exec 3<&-; }
eventually() { for _ in $(seq 100); do if eval "$1"; then return; fi; sleep 0.2; done; echo "not within 20 s: $1"; return 1; }
has() { get /metrics | grep "$1" >/dev/null; }
# A `!` fails no script.
refuse() { if "$@"; then echo "it should not: $*"; return 1; fi; }

echo '== what belongs to others: one line that says what, and how to go on'
other() { setpriv --reuid=daemon --regid=daemon --clear-groups env TWILIO_ACCOUNT_SID="AC$(printf '0%.0s' $(seq 32))" TWILIO_AUTH_TOKEN=x /srv/exporter --storage.path=/srv/store --web.listen-address=127.0.0.1:0 "$@"; }
# Ends with this code, and says this.
refused() { local code=$1 text=$2; shift 2; if other "$@" >/tmp/said 2>&1; then echo "it runs: $*"; return 1; else [ $? = "$code" ]; fi; grep -F "$text" /tmp/said >/dev/null || { cat /tmp/said; return 1; }; }
dpkg -x "$(ls /deb/*.deb | head -n 1)" /srv/package
install -m 755 /srv/package/usr/bin/twilio-call-exporter /srv/exporter
umask 077
mkdir /srv/store
refused 1 'cannot use the storage directory `/srv/store`: make it writable for this user'
touch /srv/store/exporter.db
chmod 644 /srv/store/exporter.db
chmod 777 /srv/store
refused 1 '`/srv/store/exporter.db` can'"'"'t be written: make it writable for this user'
echo secret >/srv/theirs
echo 'accounts: [ { account_sid: AC00000000000000000000000000000000, auth_token_file: /srv/theirs } ]' >/srv/exporter.yml
refused 78 '`/srv/exporter.yml`: cannot be read: Permission denied' --config.file=/srv/exporter.yml
chmod 644 /srv/exporter.yml
refused 78 'auth_token_file: cannot read `/srv/theirs`: permission denied' --config.file=/srv/exporter.yml
echo 'tls_server_config: { cert_file: /srv/theirs, key_file: /srv/theirs }' >/srv/web.yml
chmod 644 /srv/web.yml
refused 78 'tls_server_config.key_file: cannot read `/srv/theirs`: permission denied' --web.config.file=/srv/web.yml
umask 022

echo '== install: there, and neither enabled nor started'
dpkg -i /deb/*_0.1.0-1_*.deb
[ "$(systemctl is-enabled $unit || true)" = disabled ]
[ "$(show ActiveState)" = inactive ]
[ "$(stat -c %a /etc/twilio-call-exporter/credentials)" = 700 ]

echo '== without an account: says what is missing, and is not started again and again'
refuse systemctl start $unit
eventually '[ "$(show ActiveState)" = failed ]'
[ "$(show ExecMainStatus)" = 78 ]
[ "$(show NRestarts)" = 0 ]
journalctl -u $unit | grep TWILIO_ACCOUNT_SID >/dev/null

echo '== with one: ready, and its secret comes as a credential'
/usr/bin/twilio-call-exporter simulate >/run/simulated 2>/dev/null &
eventually 'grep -q TWILIO_AUTH_TOKEN /run/simulated'
sid=$(grep -o 'TWILIO_ACCOUNT_SID=[^ ]*' /run/simulated | cut -d= -f2)
grep -o 'TWILIO_AUTH_TOKEN=[^ ]*' /run/simulated | cut -d= -f2 >/etc/twilio-call-exporter/credentials/auth-token
chmod 600 /etc/twilio-call-exporter/credentials/auth-token
configure() { cat >/etc/twilio-call-exporter/exporter.yml <<CONFIG
accounts:
  - { name: $1, account_sid: $sid, auth_token_credential: twilio_auth-token, base_url: "http://127.0.0.1:10915" }
poll: { interval: 1s, live_interval: 1s, after_end: [1s], settle_delay: 4s }
limits: { hold_back: 0s }
CONFIG
}
configure one
systemctl reset-failed $unit
# Ready is what it says, not that it was started.
systemctl start $unit
[ "$(show StatusText)" = 'polling Twilio' ]
eventually 'has "twilio_exporter_up{account=\"one\"} 1"'
eventually 'has "twilio_webhook_requests_total{account=\"one\""'

echo '== the cage: no privileges, seccomp, a user of its own, nothing to write but its state'
pid=$(show MainPID)
grep -q '^Seccomp:.2' /proc/$pid/status
grep -q '^NoNewPrivs:.1' /proc/$pid/status
grep -q '^CapEff:.0000000000000000' /proc/$pid/status
grep -q '^CapBnd:.0000000000000000' /proc/$pid/status
[ "$(awk '/^Uid:/ { print $2 }' /proc/$pid/status)" != 0 ]
# It is not dumpable: only root may look into it.
[ "$(stat -c %u /proc/$pid/environ)" = 0 ]
[ "$(stat -c %a /var/lib/private/$unit)" = 700 ]
token=$(cat /etc/twilio-call-exporter/credentials/auth-token)
[ -n "$token" ]
refuse grep -qaF "$token" /proc/$pid/environ /proc/$pid/cmdline

echo '== process metrics: the cage hides nothing that they need'
has '^process_start_time_seconds [1-9]'
has '^process_resident_memory_bytes [1-9]'

echo '== reload: another name, the same process; a broken file changes nothing'
configure two
systemctl reload $unit
eventually 'has "twilio_exporter_up{account=\"two\"} 1"'
[ "$(show MainPID)" = "$pid" ]
echo 'nonsense: 1' >>/etc/twilio-call-exporter/exporter.yml
systemctl reload $unit
eventually 'has "^twilio_exporter_config_last_reload_successful 0"'
eventually '[ "$(show StatusText)" != "polling Twilio" ]'
has 'twilio_exporter_up{account="two"} 1'
configure two

echo '== stop and start: within two seconds, and counters go on'
count() { get /metrics | grep '^twilio_calls_total' | awk '{ sum += $2 } END { print int(sum) }'; }
created() { get /metrics | grep '^twilio_exporter_store_created_timestamp_seconds'; }
eventually '[ "$(count)" -gt 3 ]'
before=$(count)
store=$(created)
began=$(date +%s%N)
systemctl stop $unit
took=$((($(date +%s%N) - began) / 1000000))
echo "stopped within $took ms"
[ "$took" -lt 2000 ]
[ "$(show Result)" = success ]
systemctl start $unit
[ "$(created)" = "$store" ]
eventually '[ "$(count)" -ge "$before" ]'

echo '== watchdog: a process that hangs is killed and started again'
mkdir -p /run/systemd/system/$unit.service.d
printf '[Service]\nWatchdogSec=2\nRestartSec=1\n' >/run/systemd/system/$unit.service.d/watchdog.conf
systemctl daemon-reload
systemctl restart $unit
pid=$(show MainPID)
sleep 5
[ "$(show MainPID)" = "$pid" ] # It is fed.
kill -STOP "$pid"
eventually '[ "$(show NRestarts)" = 1 ]'
eventually 'has "twilio_exporter_up{account=\"two\"} 1"'
rm -r /run/systemd/system/$unit.service.d
systemctl daemon-reload
pid=$(show MainPID)
journalctl -u $unit | grep -i watchdog >/dev/null

echo '== a start that fails is tried again, however often: no limit makes the failure permanent'
mkdir -p /run/systemd/system/$unit.service.d
printf '[Service]\nExecStartPre=/usr/bin/test -e /run/mounted\nRestartSec=100ms\n' >/run/systemd/system/$unit.service.d/mount.conf
systemctl daemon-reload
systemctl restart $unit || true
eventually '[ "$(show NRestarts)" -gt 12 ]'
[ "$(show ActiveState)" != failed ]
touch /run/mounted
eventually '[ "$(show ActiveState)" = active ]'
rm -r /run/systemd/system/$unit.service.d
systemctl daemon-reload

echo '== upgrade: what was configured stays, counters go on, and the new program runs'
pid=$(show MainPID)
before=$(count)
dpkg -i /deb/*_0.1.0-2_*.deb
[ "$(show ActiveState)" = active ]
[ "$(show MainPID)" != "$pid" ]
grep 'name: two' /etc/twilio-call-exporter/exporter.yml >/dev/null
[ "$(created)" = "$store" ]
eventually '[ "$(count)" -ge "$before" ]'
dpkg-query -W -f '${Version}' twilio-call-exporter | grep -x 0.1.0-2

echo '== remove: it ends, and what was configured stays; purge: nothing stays'
pid=$(show MainPID)
[ -e "/proc/$pid" ]
dpkg -r twilio-call-exporter
[ ! -e "/proc/$pid" ]
[ ! -e /usr/bin/twilio-call-exporter ]
[ -e /etc/twilio-call-exporter/exporter.yml ]
[ -d /var/lib/private/$unit ]
dpkg -P twilio-call-exporter
[ ! -e /etc/twilio-call-exporter ]
[ ! -e /var/lib/private/$unit ]

echo passed
systemctl poweroff --force
