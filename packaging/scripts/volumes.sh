# What the scripts know of volumes. It is put in front of prerm and postrm when the packages are made.

config=/etc/mooring/mooring.yaml
supervisor_config=/etc/mooring/supervisor.yaml
# Where the directories are, once the configuration is gone.
places=/var/lib/mooring/places

# setting prints the value of a key, or its default, of the configuration or of another file and its key.
setting() {
	value=
	if [ -r "$places" ]; then
		value=$(sed -n "s/^$1: *//p" "$places")
	elif [ -r "${3:-$config}" ]; then
		value=$(sed -n "s/^${4:-$1}: *//p" "${3:-$config}" | sed -e 's/ *#.*$//' -e 's/ *$//' -e 's/^"\(.*\)"$/\1/' -e "s/^'\(.*\)'\$/\1/")
	fi
	case "$value" in
	/*) echo "$value" ;;
	*) echo "$2" ;;
	esac
}

state_dir() { setting state_dir /var/lib/mooring; }
mount_dir() { setting mount_dir /var/lib/mooring/mnt; }
supervisor_dir() { setting supervisor_dir /var/lib/mooring/supervisor "$supervisor_config" state_dir; }

# mounted prints the names of the volumes that are mounted.
mounted() {
	awk -v dir="$(mount_dir)/" 'index($5, dir) == 1 { name = substr($5, length(dir) + 1); gsub(/\\040/, " ", name); print name }' /proc/self/mountinfo
}

# disks prints the volumes whose disks the ledger knows, each as name, backing and disk UUID, separated by tabs. It reads both generations
# without a look at their checksums: a name too many does no harm here.
disks() {
	for generation in "$(state_dir)/ledger.0" "$(state_dir)/ledger.1"; do
		[ ! -r "$generation" ] || sed -e 's/{"volume":{/\n&/g' "$generation"
	done | sed -n 's/^{"volume":{"name":"\([^"]*\)".*"backing":"\([^"]*\)","disk":"\([0-9a-f-][0-9a-f-]*\)".*/\1\t\2\t\3/p' |
		sed -e 's/\\u0026/\&/g' -e 's/\\u003c/</g' -e 's/\\u003e/>/g' | sort -u
}

# link prints where a disk that is attached to this machine is found by its UUID.
link() { echo "/dev/disk/by-id/wwn-0x$(echo "$1" | tr -d -)"; }
