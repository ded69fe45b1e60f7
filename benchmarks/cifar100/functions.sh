# What the studies of this folder share. Sourced with `here`, `teacher`, `data`, `runs` set.

failed=0

compare() { # folder, options. A failure does not stop the study; run it again.
  local out=$1
  shift
  keras-dtkd compare --data cifar100 --data-dir "$data" --teacher resnet32x4 \
    --student resnet8 --teacher-weights "$teacher" --validation 0.04 \
    --augmentations-per-image 4 --output "$runs/$out" "$@" || failed=1
}

collect() { # from, to: run.json files of finished runs, into this folder
  local from="$runs/$1/cifar100/resnet32x4-resnet8"
  [ -d "$from" ] || return 0
  (cd "$from" && { grep -rl --include=run.json '"status": "finished"' . || true; }) |
    while read -r file; do
      mkdir -p "$here/$2/$(dirname "$file")"
      cp "$from/$file" "$here/$2/$file"
    done
}

restore() { # from, to: finished runs are not repeated
  local to="$runs/$2/cifar100/resnet32x4-resnet8"
  [ -d "$here/$1" ] || return 0
  (cd "$here/$1" && find . -name run.json) | while read -r file; do
    [ -e "$to/$file" ] && continue
    mkdir -p "$to/$(dirname "$file")"
    cp "$here/$1/$file" "$to/$file"
  done
}
