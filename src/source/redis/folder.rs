//! A server's data on its volume: a snapshot staged beside it, swapped in while the server is stopped, the old
//! files kept.
//!
//! All of it is done in a scratch container of the server's own image, as root, with nothing mounted but the one
//! volume: the server's container may be stopped, read-only, or of another user.

use super::layout::{Layout, Target};
use super::server::Server;
use crate::docker::Engine;
use crate::docker::exec::{Command, Consumer, Transport};
use crate::docker::owner::Owner;
use crate::docker::scratch::{Bound, Scratch, ScratchOptions};
use crate::error::{Error, Result};
use crate::stack::{Mount, Service};
use std::time::Duration;

/// How long work in a scratch container may take: a large snapshot on a slow disk takes its time.
const LIFETIME: Duration = Duration::from_hours(12);

/// What a folder's name begins with that holds a snapshot on its way in.
pub const RESTORING: &str = "lifeboat_restoring_";
/// What a folder's name begins with that holds the files from before an in-place restore.
pub const BEFORE: &str = "lifeboat_before_";
/// What a folder's name begins with that holds the files that a rollback put aside.
pub const UNDONE: &str = "lifeboat_undone_";

/// Says in a folder that everything is in it: as long as this is missing, files are still on their way.
const KEPT: &str = "lifeboat-kept";

/// Moves the server's files into `$ASIDE` and those of `$IN` into their place. `$NAMES` has a name a line.
///
/// The mark in `$ASIDE` divides the two halves, so that [`BACK`] knows of every file whose it is, wherever this
/// was interrupted.
const FORTH: &str = r#"set -e
cd -- "$DIR"
each() { printf '%s\n' "$NAMES" | while IFS= read -r name; do [ ! -e "$1$name" ] || mv -f -- "$1$name" "$2"; done; }
[ -d "$IN" ] || { echo "there is no folder $IN" >&2; exit 1; }
mkdir -m 0711 -- "$ASIDE"
each ./ "$ASIDE/"
printf 'the files of before %s\n' "$RUN" >"$ASIDE/lifeboat-kept"
sync
each "$IN/" ./
rm -f -- "$IN/lifeboat-kept"
rmdir -- "$IN"
sync
"#;

/// Takes [`FORTH`] back, from wherever it came to; nothing to do is no error. What had come in goes to `$IN` again.
const BACK: &str = r#"set -e
cd -- "$DIR"
each() { printf '%s\n' "$NAMES" | while IFS= read -r name; do [ ! -e "$1$name" ] || mv -f -- "$1$name" "$2"; done; }
[ -d "$ASIDE" ] || exit 0
if [ -e "$ASIDE/lifeboat-kept" ]; then
  mkdir -p -m 0711 -- "$IN"
  each ./ "$IN/"
  printf 'put aside again %s\n' "$RUN" >"$IN/lifeboat-kept"
  sync
  rm -f -- "$ASIDE/lifeboat-kept"
fi
each "$ASIDE/" ./
rmdir -- "$ASIDE"
sync
"#;

/// Makes `$IN` and takes a snapshot from standard input into it, laid out as the server will read it. Owners and
/// modes are those of the files that serve now, else the folder's: the server reads and writes it as itself.
const STAGE: &str = r#"set -e
umask 077
cd -- "$DIR"
mkdir -m 0700 -- "$IN"
like=.
for name in "$SNAPSHOT_LIKE" "$FOLDER"; do
  if [ -n "$name" ] && [ -e "./$name" ]; then like=./$name; break; fi
done
owner=$(stat -c %u:%g -- "$like")
into=$IN
if [ -n "$FOLDER" ]; then into=$IN/$FOLDER; mkdir -m 0700 -- "$into"; fi
cat >"$into/$SNAPSHOT"
if [ -n "$INCREMENT" ]; then
  : >"$into/$INCREMENT"
  printf '%s' "$MANIFEST_TEXT" >"$into/$MANIFEST"
fi
if [ -n "$FOLDER" ] && [ -d "./$FOLDER" ]; then chmod "$(stat -c %a -- "./$FOLDER")" "$into"; fi
mode=600
[ ! -f "./$SNAPSHOT_LIKE" ] || mode=$(stat -c %a -- "./$SNAPSHOT_LIKE")
find "$into" -type f -exec chmod "$mode" '{}' +
chown -R "$owner" "$IN"
sync
"#;

/// Lets the image's own check read a staged snapshot. 0 well, 1 not well, 4 where the image has no such program.
const CHECK: &str = r#"cd -- "$DIR"
for check in redis-check-rdb valkey-check-rdb; do
  if command -v "$check" >/dev/null 2>&1; then
    said=$("$check" "$IN/$STAGED" 2>&1) && exit 0
    printf '%s\n' "$said" | tail -n 5 >&2
    exit 1
  fi
done
exit 4
"#;

/// Where a server's data lies.
#[derive(Debug, Clone)]
pub struct DataFolder {
    engine: Engine,
    service: Service,
    layout: Layout,
    bound: Bound,
}

impl DataFolder {
    /// The folder of `service`'s server.
    ///
    /// # Errors
    /// Where it is on no volume: what was put there would be gone with the container.
    pub fn of(engine: &Engine, service: &Service, layout: &Layout) -> Result<Self> {
        let bound = bound(&service.mounts, &layout.dir).ok_or_else(|| {
            Error::failed(format!(
                "the data folder {} of service {} is on no volume",
                layout.dir, service.name
            ))
            .hint("mount a volume there: without one its data is lost with the container anyway")
        })?;
        Ok(Self {
            engine: engine.clone(),
            service: service.clone(),
            layout: layout.clone(),
            bound,
        })
    }

    /// The same folder in another volume, for a restore beside.
    #[must_use]
    pub fn in_volume(&self, volume: &str) -> Self {
        Self {
            bound: Bound {
                source: volume.to_owned(),
                destination: self.bound.destination.clone(),
            },
            ..self.clone()
        }
    }

    /// Starts a container to work in.
    pub async fn open(&self, owner: &Owner) -> Result<Workplace<'_>> {
        let options = ScratchOptions {
            image: self.service.image_id.clone(),
            lifetime: LIFETIME,
            tmpfs: Vec::new(),
            memory: 0,
            volume: Some(self.bound.clone()),
        };
        let scratch = self
            .engine
            .scratch(owner, &options)
            .await
            .map_err(|error| {
                error.while_doing(format!(
                    "cannot work on the volume of service {} in a container of its image",
                    self.service.name
                ))
            })?;
        Ok(Workplace {
            folder: self,
            run: owner.run.clone(),
            scratch,
        })
    }
}

/// What of a service's mounts holds `dir`.
fn bound(mounts: &[Mount], dir: &str) -> Option<Bound> {
    let holds = |mount: &&Mount| {
        dir.strip_prefix(mount.destination.trim_end_matches('/'))
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let mount = mounts
        .iter()
        .filter(holds)
        .max_by_key(|mount| mount.destination.len())?;
    Some(Bound {
        source: mount.volume.clone().or_else(|| mount.folder.clone())?,
        destination: mount.destination.clone(),
    })
}

/// A container with the volume in it. Call [`close`](Self::close): dropping it does nothing.
pub struct Workplace<'a> {
    folder: &'a DataFolder,
    run: String,
    scratch: Scratch,
}

impl Workplace<'_> {
    /// Starts to stage a snapshot in the folder `incoming`; the caller writes the plain snapshot.
    pub async fn stage(&self, incoming: &str) -> Result<Consumer> {
        let Target {
            folder,
            snapshot,
            beside,
        } = self.folder.layout.target();
        let named = |index: usize| beside.get(index).cloned().unwrap_or_default();
        let ((increment, _), (manifest, text)) = (named(0), named(1));
        let command = self
            .script(STAGE)
            .env("IN", incoming)
            .env("SNAPSHOT", snapshot)
            .env("SNAPSHOT_LIKE", &self.folder.layout.dbfilename)
            .env("FOLDER", folder.unwrap_or_default())
            .env("INCREMENT", increment)
            .env("MANIFEST", manifest)
            .env("MANIFEST_TEXT", text);
        self.folder
            .engine
            .consume(&self.scratch.id, &command, Transport::Raw)
            .await
    }

    /// Lets the image's own program read what was staged: it knows what its server can read. Gives false where
    /// the image has no such program.
    ///
    /// # Errors
    /// With its words, where it finds something wrong.
    pub async fn check(&self, incoming: &str) -> Result<bool> {
        let target = self.folder.layout.target();
        let staged = match target.folder {
            Some(folder) => format!("{folder}/{}", target.snapshot),
            None => target.snapshot,
        };
        let command = self.script(CHECK).env("IN", incoming).env("STAGED", staged);
        let output = self.folder.engine.run(&self.scratch.id, &command).await?;
        match output.status {
            0 => Ok(true),
            4 => Ok(false),
            _ => Err(Error::failed(format!(
                "the image {} of service {} cannot read the snapshot: {}",
                self.folder.service.image,
                self.folder.service.name,
                output.stderr.trim()
            ))),
        }
    }

    /// Puts the files of `incoming` in the place of the server's, which are kept in `aside`. The server must
    /// not run: at its end it may write its files once more.
    pub async fn swap(&self, incoming: &str, aside: &str) -> Result<()> {
        self.run(FORTH, &[("IN", incoming), ("ASIDE", aside)]).await
    }

    /// Takes a [`swap`](Self::swap) back, however far it came.
    pub async fn swap_back(&self, incoming: &str, aside: &str) -> Result<()> {
        self.run(BACK, &[("IN", incoming), ("ASIDE", aside)]).await
    }

    /// Whether there is a folder of this name.
    pub async fn has(&self, folder: &str) -> Result<bool> {
        let command = self
            .script("cd -- \"$DIR\" && [ -d \"$FOLDER\" ]")
            .env("FOLDER", folder);
        let output = self.folder.engine.run(&self.scratch.id, &command).await?;
        Ok(output.status == 0)
    }

    /// Lays what was staged in `incoming` out in the (empty) volume itself.
    pub async fn unfold(&self, incoming: &str) -> Result<()> {
        let script = "set -e; cd -- \"$DIR\"; mv -- \"$IN\"/* ./; rmdir -- \"$IN\"; sync";
        self.run(script, &[("IN", incoming)]).await
    }

    /// Removes folders of lifeboat's whose names begin with `prefix`.
    pub async fn remove(&self, prefix: &str) -> Result<()> {
        let script = "cd -- \"$DIR\" && rm -rf -- \"./$PREFIX\"*";
        self.run(script, &[("PREFIX", prefix)]).await
    }

    /// Makes the folder `dir` in a volume that does not have it yet, with the owner that it has in the present one.
    pub async fn make_folder(&self, owner: &str) -> Result<()> {
        let script = "mkdir -p -- \"$DIR\" && chown \"$OWNER\" \"$DIR\"";
        self.run(script, &[("OWNER", owner)]).await
    }

    /// Makes the folder `dir` where it is missing, with those around it: with the owner and the mode of the mount that
    /// they are in, which is what the server expects to find.
    pub async fn make_like_mount(&self) -> Result<()> {
        let script = "set -e; [ ! -d \"$DIR\" ] || exit 0; mkdir -p -- \"$DIR\"; at=$DIR; \
                      while [ \"$at\" != \"$ROOT\" ] && [ -n \"$at\" ]; do \
                      chown \"$(stat -c %u:%g -- \"$ROOT/\")\" \"$at\"; \
                      chmod \"$(stat -c %a -- \"$ROOT/\")\" \"$at\"; at=${at%/*}; done";
        let root = self.folder.bound.destination.trim_end_matches('/');
        self.run(script, &[("ROOT", root)]).await
    }

    /// Who owns the data, as `uid:gid`.
    pub async fn owner(&self) -> Result<String> {
        let script = "cd -- \"$DIR\" || exit 1; for name in \"$LIKE\" .; do \
                      if [ -e \"./$name\" ]; then exec stat -c %u:%g -- \"./$name\"; fi; done";
        let command = self
            .script(script)
            .env("LIKE", &self.folder.layout.dbfilename);
        let output = self.folder.engine.run(&self.scratch.id, &command).await?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Removes the container.
    pub async fn close(self) -> Result<()> {
        self.scratch.remove().await
    }

    fn script(&self, script: &str) -> Command {
        Command::new("sh", ["-c", script])
            .env("DIR", &self.folder.layout.dir)
            .env("NAMES", self.folder.layout.names().join("\n"))
            .env("RUN", &self.run)
    }

    async fn run(&self, script: &str, variables: &[(&str, &str)]) -> Result<()> {
        let command = variables
            .iter()
            .fold(self.script(script), |command, (name, value)| {
                command.env(*name, *value)
            });
        let output = self.folder.engine.run(&self.scratch.id, &command).await?;
        match output.status {
            0 => Ok(()),
            status => Err(Error::failed(format!(
                "the data files of service {}: sh ended with status {status}: {}",
                self.folder.service.name,
                output.stderr.trim()
            ))),
        }
    }
}

impl Server {
    /// The folders that lifeboat keeps beside the data, complete ones only, by name.
    pub async fn kept(&self, layout: &Layout) -> Result<Vec<String>> {
        let script = "cd -- \"$DIR\" && for mark in lifeboat_*/\"$KEPT\"; do \
                      [ ! -e \"$mark\" ] || printf '%s\\n' \"${mark%/*}\"; done";
        let command = Command::new("sh", ["-c", script])
            .env("DIR", &layout.dir)
            .env("KEPT", KEPT);
        let output = self
            .engine()
            .run(&self.service().container_id, &command)
            .await?;
        let said = String::from_utf8_lossy(&output.stdout);
        let mut kept: Vec<String> = said.lines().map(str::to_owned).collect();
        kept.sort();
        Ok(kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_mount_holds_the_data() {
        let mount = |volume: Option<&str>, folder: Option<&str>, destination: &str| Mount {
            volume: volume.map(str::to_owned),
            folder: folder.map(str::to_owned),
            destination: destination.to_owned(),
            read_only: false,
        };
        let mounts = [
            mount(Some("outer"), None, "/data"),
            mount(None, Some("/srv/inner"), "/data/redis"),
            mount(None, None, "/run"),
        ];
        let source = |dir| bound(&mounts, dir).map(|bound| bound.source);
        assert_eq!(source("/data").as_deref(), Some("outer"));
        assert_eq!(source("/data/x").as_deref(), Some("outer"));
        assert_eq!(source("/data/redis").as_deref(), Some("/srv/inner"));
        assert_eq!(source("/database"), None);
        assert_eq!(source("/run/redis"), None, "in memory");
    }
}
