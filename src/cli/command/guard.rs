//! `lifeboat guard`.

use super::{backup, restore};
use crate::cli::args::{Backup, Global, Guard};
use crate::cli::child::{self, Ended, NotRun};
use crate::cli::output::Output;
use crate::cli::session::Session;
use crate::error::{Error, Kind, OrFail, Result};
use crate::event::{Event, Observer};
use crate::operation::Context;
use crate::operation::guard::{Guarded, TRIGGER, WayBack, back_up};
use crate::operation::restore::RestoreReport;
use crate::operation::shown::{masked, quoted, shown};
use serde_json::{Value, json};
use std::process::ExitCode;

pub(super) async fn run(
    session: &Session,
    global: &Global,
    arguments: Guard,
    output: &Output,
) -> Result<ExitCode> {
    let words: Vec<String> = arguments
        .command
        .iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    if let Some(Err(not_run)) = arguments.command.first().map(child::check) {
        return Ok(refused(not_run, "no backup was made", output));
    }
    let not_run = |error: Error| error.while_doing("the command was not run");
    let prepared = prepare(session, &arguments, &words, output).await;
    let Some((context, back)) = prepared.map_err(not_run)? else {
        output.remark(&format!("would run {}", shown(&words)));
        return Ok(ExitCode::SUCCESS);
    };
    let guarding = Guarding {
        context,
        way_back: command_back(&back, global)?,
        back,
        words,
        output,
    };
    let ended = match child::run(&arguments.command, &session.signals).await? {
        Ok(ended) => ended,
        Err(not_run) => {
            let backup = guarding.back.reference();
            return Ok(refused(
                not_run,
                &format!("nothing has changed; the backup {backup} stays, pinned"),
                output,
            ));
        }
    };
    match (ended.well(), arguments.rollback_on_failure) {
        (true, _) => guarding.went_well(ended),
        (false, false) => guarding.show_way_back(ended),
        (false, true) => guarding.take_way_back(ended).await?,
    }
    Ok(ExitCode::from(ended.code()))
}

/// A command that could not be run at all.
fn refused(not_run: NotRun, what_then: &str, output: &Output) -> ExitCode {
    let error = not_run.error.hint(what_then);
    output.error_with_code(&error, not_run.code);
    ExitCode::from(not_run.code)
}

/// Makes the backup and looks whether it could be put back; nothing of the kind for a dry run.
async fn prepare(
    session: &Session,
    arguments: &Guard,
    words: &[String],
    output: &Output,
) -> Result<Option<(Context, WayBack)>> {
    let wanted = Backup {
        stack: arguments.stack.clone(),
        only: arguments.only.clone(),
        include: Vec::new(),
        tag: arguments.tag.clone(),
        pin: true,
        allow_partial: false,
        quiesce: None,
        recipient: Vec::new(),
        level: None,
        wait: arguments.wait.clone(),
        dry_run: arguments.dry_run,
    };
    let request = backup::request(session, wanted, TRIGGER, output).await?;
    let context = session.context_with_engine(output).await?;
    let folder = std::env::current_dir().or_fail(|| "there is no present folder")?;
    let (finished, back) = match back_up(&context, request, words, &folder, output).await? {
        Guarded::Planned(plan) => {
            output.result("plan", &plan, &plan.to_string());
            return Ok(None);
        }
        Guarded::Done(finished, back) => (finished, back),
    };
    backup::report(&finished, false, output)?;
    if let Err(error) = back.check(&context, output).await {
        if error.kind() == Kind::Interrupted {
            return Err(error);
        }
        let backup = back.reference();
        let error = error.while_doing(format!(
            "the backup {backup} is there, and could not be put back in place as things are"
        ));
        if arguments.rollback_on_failure {
            return Err(error);
        }
        output.observe(&Event::Warning {
            message: error.chain(),
        });
    }
    Ok(Some((context, *back)))
}

/// The one command that goes back.
fn command_back(back: &WayBack, global: &Global) -> Result<String> {
    let location = back.repository().location();
    let repository = match location.path() {
        Some(path) => std::path::absolute(path)
            .or_fail(|| "there is no present folder")?
            .display()
            .to_string(),
        None => location.to_string(),
    };
    let mut words: Vec<String> = ["lifeboat", "restore"].map(str::to_owned).to_vec();
    words.push(back.reference());
    words.extend(["--in-place", "--yes", "--repository"].map(str::to_owned));
    words.push(repository);
    for (option, files) in [
        ("--config", global.config.as_slice()),
        ("--identity", &global.identity[..]),
        ("--helper", global.helper.as_slice()),
    ] {
        for file in files {
            words.extend([option.to_owned(), file.display().to_string()]);
        }
    }
    Ok(quoted(&words))
}

/// A command that is run with a backup behind it.
struct Guarding<'a> {
    context: Context,
    back: WayBack,
    way_back: String,
    words: Vec<String>,
    output: &'a Output,
}

impl Guarding<'_> {
    fn went_well(&self, ended: Ended) {
        let backup = self.back.reference();
        self.report(
            ended,
            None,
            &format!(
                "the command ended well; what was there before is in the backup {backup}, which stays pinned: \
                 lifeboat unpin {backup}"
            ),
        );
    }

    fn show_way_back(&self, ended: Ended) {
        let text = format!(
            "the command {}; what was there before is in the backup {}. This goes back to it:\n  {}",
            ended.how(),
            self.back.reference(),
            self.way_back
        );
        self.report(ended, None, &text);
    }

    /// Puts the backup back in place.
    ///
    /// # Errors
    /// Where it does not succeed: then nobody has gone back, and the command has failed, too.
    async fn take_way_back(&self, ended: Ended) -> Result<()> {
        let (backup, how) = (self.back.reference(), ended.how());
        self.output
            .remark(&format!("the command {how}; going back to {backup}"));
        let taken = self.back.take(&self.context, self.output).await;
        let report = taken.map_err(|error| {
            let reason = error.hint_text().map_or_else(String::new, |hint| format!("{hint}; "));
            error
                .while_doing(format!(
                    "the command {how}, AND THE WAY BACK FAILED: what serves now is not what the backup {backup} holds"
                ))
                .hint(format!("{reason}then try again: {}", self.way_back))
        })?;
        let mut lines = vec![format!(
            "the command {how}; rolled back: {backup} is in place again, after {:.1} s",
            report.duration.as_secs_f64()
        )];
        lines.extend(restore::aside(&report));
        self.report(ended, Some(&report), &lines.join("\n"));
        Ok(())
    }

    fn report(&self, ended: Ended, restored: Option<&RestoreReport>, text: &str) {
        let value = json!({
            "backup": self.back.reference(),
            "command": masked(&self.words),
            "code": ended.code(),
            "signal": ended.signal(),
            "rolled_back": restored.is_some(),
            "kept": restored.map_or(Value::Null, |report| json!(report.kept)),
            "safety": restored.map_or(Value::Null, |report| json!(report.safety)),
            "way_back": self.way_back,
        });
        self.output.result("guard", &value, text);
    }
}
