#!/bin/sh
# Builds binlogd_VERSION_ARCH.deb into the folder given: a virtual environment under /opt/binlogd, made with the
# machine's python3 (so for this release of Debian or Ubuntu), the service, man page and completions. Needs python3-venv,
# dpkg-deb, and gcc with python3-dev for the compiled modules. PIP_OPTIONS is passed on to pip.
set -eu
umask 022
top=$(cd "$(dirname "$0")/../.." && pwd)
out=$(mkdir -p "${1:-dist}" && cd "${1:-dist}" && pwd)
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 755 "$root"
version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' "$top/src/binlogd/__init__.py")
arch=$(dpkg --print-architecture)
python=${PYTHON:-/usr/bin/python3}
minor=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')

"$python" -m venv "$root/opt/binlogd"
# shellcheck disable=SC2086
"$root/opt/binlogd/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile ${PIP_OPTIONS:-} "$top"
# The scripts name the folder they were made in.
grep -rlI "$root" "$root/opt/binlogd/bin" "$root/opt/binlogd/pyvenv.cfg" | xargs -r sed -i "s|$root||g"

place() { install -D -m "$1" "$top/$2" "$root/$3"; }
place 644 contrib/systemd/binlogd.service lib/systemd/system/binlogd.service
place 644 contrib/systemd/binlogd.sysusers usr/lib/sysusers.d/binlogd.conf
place 644 contrib/completion/binlogd.bash usr/share/bash-completion/completions/binlogd
place 644 contrib/completion/binlogd.zsh usr/share/zsh/vendor-completions/_binlogd
place 644 contrib/completion/binlogd.fish usr/share/fish/vendor_completions.d/binlogd.fish
place 644 LICENSE usr/share/doc/binlogd/copyright
place 644 contrib/man/binlogd.1 usr/share/man/man1/binlogd.1
gzip -9n "$root/usr/share/man/man1/binlogd.1"
mkdir -p "$root/usr/bin" "$root/etc/binlogd"
ln -s /opt/binlogd/bin/binlogd "$root/usr/bin/binlogd"
PYTHONPATH="$top/src" "$root/opt/binlogd/bin/python" -m binlogd init "$root/etc/binlogd/binlogd.toml"
chmod 640 "$root/etc/binlogd/binlogd.toml"

mkdir "$root/DEBIAN"
cat > "$root/DEBIAN/control" <<CONTROL
Package: binlogd
Version: $version
Architecture: $arch
Maintainer: binlogd <binlogd@localhost>
Depends: python3 (>= $minor), python3 (<< ${minor%.*}.$((${minor#*.} + 1))), adduser
Section: database
Priority: optional
Installed-Size: $(du -sk "$root" | cut -f1)
Description: MySQL binlog server
 Keeps a MySQL source's binary log durably, acknowledges semi-synchronously,
 and serves the log to replicas.
CONTROL
echo /etc/binlogd/binlogd.toml > "$root/DEBIAN/conffiles"
for script in postinst prerm postrm; do install -m 755 "$top/contrib/debian/$script" "$root/DEBIAN/$script"; done
dpkg-deb --root-owner-group -Zgzip --build "$root" "$out/binlogd_${version}_$arch.deb"
