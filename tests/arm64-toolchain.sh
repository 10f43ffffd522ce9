#!/usr/bin/env bash
# Usage: tests/arm64-toolchain.sh FOLDER
#
# Brings a Rust compiler with the standard library of 64-bit ARM into FOLDER, on a Debian machine whose own
# Rust has none and cannot fetch it. It comes from Debian's suite 'forky', by apt, which checks its signature;
# no package is installed, and root is not needed. FOLDER/rustc is what to call.
set -euo pipefail
suite=forky
target=aarch64-unknown-linux-gnu
folder=$(realpath "${1:?Usage: tests/arm64-toolchain.sh FOLDER}")
if [ -e "$folder" ] && [ ! -x "$folder/root/usr/bin/rustc" ]; then
    echo "$folder is there, and not of this script: name another folder" >&2
    exit 2
fi
new=$(mktemp -d "$folder.XXXXXX")
trap 'rm -rf "$new"' EXIT
chmod 755 "$new"
mkdir -p "$new"/apt/{lists,archives}/partial "$new/root"

# The mirror that this machine uses. All lines are read: apt would not like to be interrupted.
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' | sed -n 1p)
if [ -z "$mirror" ]; then
    echo "apt knows no mirror of Debian: on Debian run 'apt-get update', elsewhere 'rustup target add $target'" >&2
    exit 1
fi
keys=/usr/share/keyrings/debian-archive-keyring.gpg
echo "deb [signed-by=$keys] $mirror $suite main" >"$new/apt/sources.list"
touch "$new/apt/status"
apt=(apt-get -qq
    -o Dir::Etc::SourceList="$new/apt/sources.list" -o Dir::Etc::SourceParts=/dev/null
    -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null
    -o Dir::State="$new/apt" -o Dir::State::status="$new/apt/status" -o Dir::Cache="$new/apt"
    -o APT::Architectures::=amd64 -o APT::Architectures::=arm64)
"${apt[@]}" update
"${apt[@]}" --download-only --no-install-recommends --yes install rustc libstd-rust-dev:arm64

for package in "$new"/apt/archives/*_amd64.deb "$new"/apt/archives/libstd-rust-dev_*_arm64.deb; do
    case ${package##*/} in
        cpp-* | gcc-*) ;; # Large, and the machine's own compiler links.
        *) dpkg-deb -x "$package" "$new/root" ;;
    esac
done
rm -r "$new/apt"

# It wants a newer C library than the machine may have: it is started with its own.
cat >"$new/rustc" <<'EOF'
#!/bin/sh
root=$(dirname "$0")/root/usr
exec "$root/lib64/ld-linux-x86-64.so.2" --library-path "$root/lib/x86_64-linux-gnu" \
    "$root/bin/rustc" --sysroot "$root" "$@"
EOF
chmod +x "$new/rustc"
"$new/rustc" --version
test -d "$("$new/rustc" --print target-libdir --target "$target")"
rm -rf "$folder"
mv "$new" "$folder"
