#!/usr/bin/env bash
# The Autobahn test suite 25.10.1 into DIR, unmodified, as DIR/wstest. A second run finds it there and does nothing.
#
#   tests/autobahn/install.sh DIR
#
# The suite is a Python 2 program. Debian 12 has no Python 2 any more, so Debian 11's pypy (Python 2.7) is unpacked
# into DIR, beside the system and without touching it, and the suite's packages go into that pypy. Everything comes
# from the Debian mirror and the package index that this machine is set up with.
set -euo pipefail

suite=25.10.1
[ $# -eq 1 ] || { echo "usage: install.sh DIR" >&2; exit 2; }
dir=$(realpath -m "$1")
done_mark="$dir/installed-$suite"
[ -e "$done_mark" ] && exit 0

sentence() { echo "autobahn: $*" >&2; exit 1; }
for tool in apt-get dpkg gcc python3; do
  command -v "$tool" >/dev/null || sentence "$tool is missing; the test suite can be installed on Debian or Ubuntu with gcc and Python 3"
done
python3 -m pip --version >/dev/null 2>&1 || sentence "Python's pip is missing; install the package python3-pip"
[ "$(dpkg --print-architecture)" = amd64 ] || sentence "this script knows the test suite on amd64 only"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
[ -e "$keyring" ] || sentence "$keyring is missing; install the package debian-archive-keyring"
mirror=$(apt-get indextargets --format '$(SITE) $(REPO_URI)' | grep -v security | sed -n '1s/^[^ ]* //p')
[ -n "$mirror" ] || sentence "apt-get knows no Debian mirror on this machine"

rm -rf "$dir"
mkdir -p "$dir"/apt/{lists/partial,archives/partial,debs} "$dir/root" "$dir/wheels"
echo "autobahn: installing the test suite $suite into $dir (once, about a minute)"

# 1. Debian 11's pypy with the libraries it was built against, by an apt configuration of its own.
: >"$dir/apt/status"
echo "deb [signed-by=$keyring] $mirror bullseye main" >"$dir/apt/sources.list"
own_apt() {
  apt-get -qq -o Dir::Etc::sourcelist="$dir/apt/sources.list" -o Dir::Etc::sourceparts=- -o Dir::State="$dir/apt" \
    -o Dir::State::status="$dir/apt/status" -o Dir::Cache="$dir/apt" -o APT::Sandbox::User="$(id -un)" "$@"
}
own_apt update
(cd "$dir/apt/debs" && own_apt download pypy pypy-lib pypy-dev libssl1.1 libssl-dev libffi7 libgdbm6 libncursesw6 \
  libtinfo6 libsqlite3-0 libexpat1)
for package in "$dir"/apt/debs/*.deb; do dpkg -x "$package" "$dir/root"; done

lib="usr/lib/x86_64-linux-gnu"
cat >"$dir/python2" <<END
#!/bin/sh
unset PYTHONPATH PYTHONDONTWRITEBYTECODE
PYTHONNOUSERSITE=1 LD_LIBRARY_PATH="$dir/root/$lib:$dir/root/lib/x86_64-linux-gnu" exec "$dir/root/usr/bin/pypy" "\$@"
END
chmod +x "$dir/python2"

# 2. The last pip, setuptools and wheel that run on Python 2, then the suite, into pypy's own package folder.
site="$dir/root/usr/lib/pypy/dist-packages"
export PIP_DISABLE_PIP_VERSION_CHECK=1
export PIP_COMPILE=no   # this pip cannot find the names of Debian's compiled files
python3 -m pip download -q --no-deps -d "$dir/wheels" pip==20.3.4 setuptools==44.0.0 wheel==0.36.2
pip_wheel=$(echo "$dir"/wheels/pip-*.whl)
# Out of its wheel pip can install wheels and nothing that is to be built.
"$dir/python2" "$pip_wheel/pip" --no-python-version-warning install -qq --target "$site" "$dir"/wheels/*.whl
py2_pip() { "$dir/python2" -m pip --no-python-version-warning install -qq --target "$site" "$@"; }

py2_pip 'setuptools_scm<6' typing==3.10.0.0 six==1.16.0 enum34==1.1.10 ipaddress==1.0.23 argparse==1.4.0 \
  attrs==21.4.0 incremental==16.10.1 constantly==15.1.0 hyperlink==21.0.0 zope.interface==4.6.0 Automat==20.2.0 \
  PyHamcrest==1.10.1 txaio==2.1.0
CFLAGS="-I$dir/root/usr/include -I$dir/root/usr/include/x86_64-linux-gnu" LDFLAGS="-L$dir/root/$lib" \
  py2_pip cryptography==3.3.2 pyOpenSSL==19.1.0 service_identity==18.1.0
py2_pip --no-deps --no-build-isolation Twisted==19.10.0
py2_pip --no-deps markupsafe==1.1.1 jinja2==2.11.3 Werkzeug==1.0.1 klein==17.10.0 linecache2==1.0.0 traceback2==1.4.0 \
  unittest2==1.1.0 autobahn==0.10.9 "autobahntestsuite==$suite"

cat >"$dir/wstest" <<END
#!/bin/sh
exec "$dir/python2" -u -c 'import sys; sys.argv[0] = "wstest"; from autobahntestsuite.wstest import run; run()' "\$@"
END
chmod +x "$dir/wstest"
rm -rf "$dir/apt" "$dir/wheels"

version=$("$dir/wstest" --autobahnversion 2>&1 | tail -n 1)
case $version in
  *"$suite"*) touch "$done_mark" ;;
  *) sentence "the test suite does not start: $version" ;;
esac
