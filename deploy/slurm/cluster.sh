
# Ray's token is made here for this job. It goes to the nodes in the environment, so it is in no file and no command.
unset RAY_ADDRESS RAY_API_SERVER_ADDRESS RAY_AUTH_TOKEN_PATH RAY_TMPDIR RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER SWEEPS_GROWS_TO
unset ${!SQUEUE_*} # what is asked of Slurm below is asked as it stands
RAY_AUTH_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
export RAY_AUTH_TOKEN RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0 RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO=0
export RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S=0 # there is nothing to wait for: what is not committed is measured again
export python temp_dir

# What every node runs: Ray, in a folder of its own, under the address that Slurm knows the node by. Only the
# head's ports are agreed upon; the others are whichever the system finds free, so that two jobs on a node never meet.
address='address() {
  known=$(scontrol show node --oneliner "$SLURMD_NODENAME" | sed -n "s/.* NodeAddr=\([^ ]*\).*/\1/p")
  found=$(getent ahostsv4 "${known:-$HOSTNAME}" | sed -n "1s/ .*//p")
  case $found in
    "" | 127.*) found=$(hostname -I | sed "s/ .*//") ;; # a node that takes its own name for the loopback
  esac
  echo "$found"
}'
node="$address"'
tmp=$(mktemp -d "$temp_dir/sw$SLURM_JOB_ID.XXXX") || exit 1 # 0700; Ray opens what it is given itself to everybody
trap "kill -TERM \$ray" TERM INT
"$python" -P -m ray.scripts.scripts start --block --temp-dir="$tmp/r" --node-ip-address="$(address)" \
  --min-worker-port=0 --max-worker-port=0 --node-manager-port=0 --object-manager-port=0 --metrics-export-port=0 \
  --dashboard-agent-listen-port=0 --dashboard-agent-grpc-port=0 --runtime-env-agent-port=0 \
  --object-store-memory=200000000 --include-log-monitor=false --log-color=false --disable-usage-stats "$@" &
ray=$!
while kill -0 "$ray" 2>/dev/null; do wait "$ray"; done
rm -rf -- "$tmp"'
step() { # NAME NODES ARGUMENT...
  srun --overlap --export=ALL --nodes="$2" --ntasks="$2" --ntasks-per-node=1 --cpu-bind=none \
    --kill-on-bad-exit=0 --wait=0 --output="$folder/%j-$1.log" --open-mode=append "${@:3}"
}

state() { # of this job; nothing where Slurm cannot say, such as while it is busy
  for _ in 1 2 3; do
    timeout 5 squeue --noheader --jobs="$SLURM_JOB_ID" --format=%T 2>/dev/null | grep . && return
    sleep 1
  done
}
is_ended() {
  case $(state) in
    "" | RUNNING) return 1 ;;
  esac
}
stop() { # the time is nearly up; or else the job is cancelled, and Slurm itself ends all that it runs
  if ! is_ended; then
    stopped=yes
    [ -z "$driver" ] || kill -TERM "$driver"
  fi
}
finish() { # our own two steps, and nothing else; what is not gone by then Slurm ends with the job
  for pid in $workers $head; do
    kill -TERM "$pid" 2>/dev/null
    for _ in {1..150}; do
      kill -0 "$pid" 2>/dev/null || break
      sleep 0.1
    done
  done
}
requeue() {
  for _ in 1 2 3; do
    timeout 5 scontrol requeue "$SLURM_JOB_ID" && return
    sleep 1
  done
  echo "error: Slurm does not requeue it: submit it again to go on"
  return 1
}
trap stop TERM
stopped='' driver='' workers='' head=''
echo "job $SLURM_JOB_ID on $SLURM_JOB_NODELIST, run $((${SLURM_RESTART_COUNT:-0} + 1)), $(date --iso-8601=seconds)"

eval "$address"
here=$(address)
is_taken() { (: <"/dev/tcp/$here/$1") 2>/dev/null; }
port=$((20000 + SLURM_JOB_ID % 4000 * 3)) # the head's, its client server's, and one for the dashboard that is off
while is_taken "$port" || is_taken $((port + 1)) || is_taken $((port + 2)); do port=$((port + 3)); done

rm -rf -- "$temp_dir/sw$SLURM_JOB_ID".* # of a run of this job that was killed
step head 1 --nodelist="$SLURMD_NODENAME" bash -c "$node" head --head --num-cpus=0 --num-gpus=0 --port="$port" \
  --ray-client-server-port=$((port + 1)) --dashboard-port=$((port + 2)) --include-dashboard=false --no-monitor &
head=$!
latest=$((SECONDS + 300))
until [ -n "$stopped" ] || compgen -G "$temp_dir/sw$SLURM_JOB_ID.*/r/ray_current_cluster" >/dev/null; do # Ray is up
  sleep 0.2
  if ! kill -0 "$head" 2>/dev/null || [ "$SECONDS" -gt "$latest" ]; then
    echo "error: Ray does not start; see $folder/$SLURM_JOB_ID-head.log"
    finish
    exit 1
  fi
done
share=${SLURM_CPUS_PER_TASK:+--cpus-per-task=$SLURM_CPUS_PER_TASK} # srun does not always take it from its job
work='set -- --num-cpus="$SLURM_CPUS_ON_NODE" "$@"
[ "${SLURM_MEM_PER_NODE:-0}" = 0 ] || set -- --memory=$((SLURM_MEM_PER_NODE * 900000)) "$@"
'
status=130
if [ -z "$stopped" ]; then
  step workers "$SLURM_JOB_NUM_NODES" --label $share bash -c "$work$node" worker --num-gpus="$gpus" \
    --address="$here:$port" &
  workers=$!
  RAY_ADDRESS="$here:$port" "$python" -P -m deploy.driver "$folder/job.json" &
  driver=$!
  while kill -0 "$driver" 2>/dev/null; do
    wait "$driver"
    status=$?
  done
fi
case $status in
  0 | 2 | 3 | 4) stopped='' ;; # done, or not to be mended by going on
esac
if [ -n "$stopped" ]; then
  status=130 # the driver may have been at its beginning, and say otherwise
  if is_ended; then
    echo "not requeued: the job was ended"
  elif [ "${SLURM_RESTART_COUNT:-0}" -lt "$requeues" ]; then
    echo "its time is nearly up: requeued, to go on from what is committed"
    requeue && exit "$status" # at once, while there is time; Slurm ends the two steps
  else
    echo "its time is nearly up, and it was requeued $requeues times: submit it again to go on"
  fi
fi
finish
exit "$status"
