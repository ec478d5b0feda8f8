# A stand-in for the API: writes an event about five times a second, and reconnects when it must. cache.sh does the
# same with Redis.
if [ -n "${PGPASSWORD_FILE:-}" ]; then
  PGPASSWORD=$(cat "$PGPASSWORD_FILE")
  export PGPASSWORD
fi
write_events() {
  echo "create table if not exists public.events (id bigint generated always as identity primary key, source text not null, at timestamptz not null default now());"
  while :; do
    echo "insert into public.events (source) values ('$(hostname)');"
    echo '\! touch /tmp/alive'
    sleep 0.2
  done
}
bash /app/cache.sh &
while :; do
  write_events | psql -q -v ON_ERROR_STOP=1
  sleep 0.5
done
