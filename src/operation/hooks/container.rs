//! Hooks in the stack's own containers, through exec.

use super::said::Said;
use super::{End, HookCall, HookContainer, Stopped, Surroundings};
use crate::docker::exec::{Command, Stop};
use crate::error::Result;

/// Ends what carries a run's id in its environment.
const END: &str = r#"
for d in /proc/[0-9]*; do
  [ "$d" != "/proc/$$" ] || continue
  run=$(tr '\0' '\n' <"$d/environ" 2>/dev/null | sed -n 's/^LIFEBOAT_HOOK_OF=//p')
  if [ "$run" = "$LIFEBOAT_END" ]; then kill "${d#/proc/}" 2>/dev/null; fi
done
exit 0
"#;

impl Surroundings<'_> {
    pub(super) async fn in_container(
        &self,
        id: &str,
        container: &HookContainer,
        hook: &HookCall,
        stop: impl Future<Output = Stopped>,
        said: &mut Said<'_>,
    ) -> Result<End> {
        let [program, arguments @ ..] = &hook.command[..] else {
            return Ok(End::Badly("has no command".to_owned()));
        };
        let mut command = Command::new(program, arguments);
        for (name, value) in self.variables() {
            command = command.env(name, value);
        }
        if let Some(user) = &container.user {
            command = command.user(user);
        }
        let engine = self.context.engine()?;
        let ended = engine
            .run_until(id, &command, stop, |bytes| said.push(bytes))
            .await?;
        Ok(match ended {
            Stop::Ended(0) => End::Well,
            Stop::Ended(127) => End::Badly(
                "ended with status 127, which mostly means that the container has no such program"
                    .to_owned(),
            ),
            Stop::Ended(status) => End::Badly(format!("ended with status {status}")),
            Stop::Stopped(why) => End::Stopped(why),
        })
    }

    /// Ends what the run has left behind in a container, by best effort.
    pub(super) async fn end_in_container(&self, id: &str, container: &HookContainer) {
        let Ok(engine) = self.context.engine() else {
            return;
        };
        let mut command = Command::new("sh", ["-c", END]).env("LIFEBOAT_END", self.run);
        if let Some(user) = &container.user {
            command = command.user(user);
        }
        let _ = engine.run(id, &command).await;
    }
}
