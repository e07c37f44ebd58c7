# shellcheck shell=bash
# Shared by the bash scripts of this directory: where things are, and how they speak to people.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
me=scripts/$(basename "$0")

say() { printf '%s: %s\n' "$me" "$*" >&2; }
die() {
	say "$@"
	exit 1
}

# DIRECTORY GIB WHAT: nothing is begun that would fill the disk.
need_room() {
	local free
	free=$(($(df --output=avail -k "$1" | tail -n 1) >> 20))
	[ "$free" -ge "$2" ] ||
		die "$cache has $free GiB left and $3 needs $2: make room or set P2PMEM_CACHE to a larger place, then run this again"
}

# The sums of the counts that programs have ended with, 'N passed, N failed', as two numbers. Nothing if none has.
sum_of_counts() {
	sed -nE 's/^([0-9]+) passed, ([0-9]+) failed$/\1 \2/p' | awk '{ p += $1; f += $2 } END { if (NR) print p, f }'
}

if [ -n "${P2PMEM_CACHE:-}" ]; then
	cache=$P2PMEM_CACHE
elif [ -n "${XDG_CACHE_HOME:-}" ]; then
	cache=$XDG_CACHE_HOME/p2pmem
else
	cache=${HOME:?HOME is not set; set P2PMEM_CACHE to a directory for the sandbox}/.cache/p2pmem
fi
# sudo may change HOME: what it starts must find the same cache.
export P2PMEM_CACHE=$cache

# shellcheck disable=SC2034 # for the scripts that read this file
# Everything made in the sandbox belongs to whom the checkout belongs.
owner=$(stat -c %u:%g "$root")
# shellcheck disable=SC2034 # likewise
home=$cache/home-${owner%:*}

# Start the calling script again as root, with the settings that it understands.
as_root() {
	local name vars=()
	[ "$(id -u)" -ne 0 ] || return 0
	command -v sudo >/dev/null || die "this needs root: install sudo or run it as root"
	for name in P2PMEM_CACHE P2PMEM_MIRROR P2PMEM_ACCEL P2PMEM_QUIET TERM http_proxy https_proxy no_proxy; do
		[ -z "${!name+set}" ] || vars+=("$name=${!name}")
	done
	# While it can still be made as its user's own.
	mkdir -p "$cache" || die "cannot make $cache: set P2PMEM_CACHE to a directory that can be written"
	exec sudo -- env "${vars[@]}" "$0" "$@"
}
