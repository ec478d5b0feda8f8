# A stand-in for what the API keeps in Redis: a session, a counter and a queue of jobs, about five times a second; it
# reconnects when it must. Bash and Redis's own protocol will do, so that the image needs no client.
LC_ALL=C # lengths are in bytes

ask() { # ask WORD…: fails unless the answer is one line and not an error
  local request word answer
  printf -v request '*%d\r\n' $#
  for word in "$@"; do request+=\$${#word}$'\r\n'$word$'\r\n'; done
  # At once: a request in pieces waits for acknowledgements.
  printf %s "$request" >&3
  IFS= read -r -t 10 answer <&3 && [ "${answer#[:+]}" != "$answer" ]
}

work() {
  exec 3<>"/dev/tcp/$REDIS_HOST/6379" || return
  [ -z "${REDIS_PASSWORD_FILE:-}" ] || ask AUTH "$(cat "$REDIS_PASSWORD_FILE")" || return
  local session
  session=session:$(hostname)
  while ask INCR stats:requests &&
    ask HSET "$session" user 1 seen "$(date +%s)" && ask EXPIRE "$session" 3600 &&
    ask RPUSH queue:thumbnails "{\"from\":\"$session\"}" && ask LTRIM queue:thumbnails -100 -1; do
    sleep 0.2
  done
}

while :; do
  (work)
  sleep 0.5
done
