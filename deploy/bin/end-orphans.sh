# Ends what its starter leaves behind, however that ends; src/local/orphan-guard.ts starts it and tells it, line by line on
# its standard input, `start <pid>` and `end <pid>`. A shell, so that whoever kills every Node on the machine leaves it alive.
trap '' HUP INT TERM
left=
# What of $left is still there, but for process $1.
keep() {
  kept=
  for each in $left; do
    if [ "$each" != "$1" ] && kill -0 "$each" 2>/dev/null; then kept="$kept $each"; fi
  done
  left=$kept
}
while read -r what pid; do
  case $what in
    start) left="$left $pid" ;;
    end) keep "$pid" ;;
  esac
done
keep ''
[ -z "$left" ] || kill -TERM $left 2>/dev/null
# One that is gone is forgotten within a second: its number may become somebody else's.
for turn in 1 2 3 4 5 6 7 8; do
  [ -n "$left" ] || exit 0
  sleep 1
  keep ''
done
[ -z "$left" ] || kill -KILL $left 2>/dev/null
