//! The `sh` scripts that wrap a command in a container, and the end mark that they print.
//!
//! The scripts are plain POSIX `sh` and run as `sh -c SCRIPT sh NONCE PROGRAM ARGUMENT…`: nothing
//! of the caller's is ever pasted into them but a preamble, which is part of this program.

use super::command::Transport;

/// Wraps a producer: its output, then the end mark, then a wait until the reader says that it has
/// read all of it.
///
/// The wait is the point. The engine stops copying a process's output some two seconds after the
/// process has ended, whatever is left (moby#39383, moby#45689): with a reader that stalled 4 s,
/// 67 to 120 KB were lost in three of seven runs, with exit code 0. A process that has not ended
/// cannot lose its end this way. `read` fails where the reader went away.
pub(super) fn produce(transport: Transport, preamble: Option<&str>) -> String {
    let run = match transport {
        Transport::Raw => "\"$@\" </dev/null\ns=c$?\n".to_owned(),
        // File descriptor 3 is the real stdout, 4 collects the statuses of *both* processes: plain
        // sh has no `pipefail`, and a dead compressor with a healthy dump must not look well.
        Transport::Zstd { level, threads } => format!(
            "exec 3>&1\n\
             s=$( {{ {{ \"$@\" </dev/null 3>&- 4>&-; echo \"c$?\" >&4; }} | \
             {{ zstd -q -{level} -T{threads} -c >&3 3>&- 4>&-; echo \"z$?\" >&4; }}; }} 4>&1 )\n"
        ),
    };
    format!(
        "n=$1; shift\n{}{run}printf '%s:%s\\n' \"$n\" \"$(echo $s)\"\nread _ || exit 96\n",
        first(preamble)
    )
}

/// Wraps a consumer. Its input is the payload, so there is nothing to wait on; the end mark is
/// short and is read while the payload is written.
///
/// A consumer that ends well leaves the rest of its input to `wc`, which counts it: a compressed
/// transport is then decoded, and its checksum checked, to the end in any case, and whether a
/// consumer took everything does not depend on what fits into a pipe.
pub(super) fn consume(transport: Transport, preamble: Option<&str>) -> String {
    let consumer = "\"$@\" >&3 3>&- 4>&-; c=$?; echo \"c$c\" >&4; \
                    [ $c -ne 0 ] || echo \"u$(wc -c 3>&- 4>&-)\" >&4;";
    let run = match transport {
        Transport::Raw => format!("s=$( {{ {consumer} }} 4>&1 )\n"),
        Transport::Zstd { .. } => format!(
            "s=$( {{ {{ zstd -q -dc 3>&- 4>&-; echo \"z$?\" >&4; }} | {{ {consumer} }}; }} 4>&1 )\n"
        ),
    };
    format!(
        "n=$1; shift\n{}exec 3>&1\n{run}printf '%s:%s\\n' \"$n\" \"$(echo $s)\"\n",
        first(preamble)
    )
}

/// Runs a command in place of the shell, after its preamble.
pub(super) fn replace(preamble: &str) -> String {
    format!("{}exec \"$@\"\n", first(Some(preamble)))
}

/// Ends what the script with `$LIFEBOAT_NONCE` among its arguments has started, and not the script: it
/// has to live to collect its children.
///
/// A child that loses its shell is handed to process 1 of the container, and there PostgreSQL takes
/// whatever dies by a signal for a crash of one of its own: it ends every session and recovers
/// (`CleanupBackend` in postmaster.c; measured on 15). So only programs are signalled. The shell and
/// its subshells, which show the nonce in their arguments, see them end, and go by themselves.
/// The nonce comes by the environment, or this script would find itself.
pub(super) const END_PROGRAMS: &str = r#"group() {
  read -r line <"$1/stat" && set -- ${line##*) } && echo "$3"
} 2>/dev/null
arguments() { tr '\0' ' ' <"$1/cmdline"; } 2>/dev/null
leader=
for d in /proc/[0-9]*; do
  [ "$d" != "/proc/$$" ] || continue
  case "$(arguments "$d") " in
    *" $LIFEBOAT_NONCE "*) leader=$(group "$d"); break ;;
  esac
done
[ -n "$leader" ] || exit 0
for d in /proc/[0-9]*; do
  [ "$(group "$d")" = "$leader" ] || continue
  case "$(arguments "$d") " in
    *" $LIFEBOAT_NONCE "*) ;;
    *) kill -s "$1" "${d#/proc/}" 2>/dev/null ;;
  esac
done
exit 0
"#;

/// The preamble with no input, its output on stderr, in the script's own shell.
fn first(preamble: Option<&str>) -> String {
    preamble.map_or_else(String::new, |code| {
        format!("{{ :\n{code}\n}} </dev/null >&2\n")
    })
}

/// The exit statuses of every process of a script, from its end mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ends {
    /// The command's.
    pub(super) command: i32,
    /// The compressor's, where there is one.
    pub(super) zstd: Option<i32>,
    /// How many bytes of its input a consumer left unread; `None` where nobody counted.
    pub(super) unread: Option<u64>,
}

impl Ends {
    /// Reads `c0`, `c0 z0`, `c0u0z0` …: each letter once, digits after it, nothing else.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (mut command, mut zstd, mut unread) = (None, None, None);
        let mut rest = text;
        while let Some(tag) = rest.chars().next() {
            let digits = rest[tag.len_utf8()..].trim_start_matches(' ');
            let end = digits
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(digits.len());
            let (number, after) = digits.split_at(end);
            match tag {
                'c' if command.is_none() => command = Some(number.parse().ok()?),
                'z' if zstd.is_none() => zstd = Some(number.parse().ok()?),
                // Empty where the container has no `wc`.
                'u' if unread.is_none() => unread = Some(number.parse().ok()),
                _ => return None,
            }
            rest = after.trim_start_matches(' ');
        }
        Some(Self {
            command: command?,
            zstd,
            unread: unread.flatten(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_read_in_any_order_and_nothing_else_is() {
        let ends = |command, zstd, unread| {
            Some(Ends {
                command,
                zstd,
                unread,
            })
        };
        assert_eq!(Ends::parse("c0"), ends(0, None, None));
        assert_eq!(Ends::parse("z137 c141"), ends(141, Some(137), None));
        assert_eq!(Ends::parse("c0u12z0"), ends(0, Some(0), Some(12)));
        assert_eq!(Ends::parse("c0 u z0"), ends(0, Some(0), None));
        for wrong in ["", "0", "c", "z0", "c0 c0", "c0 x1", "c-1", "c0\u{e9}"] {
            assert_eq!(Ends::parse(wrong), None, "{wrong:?} was read");
        }
    }
}
