//! Containers that are stopped or paused come back, whatever happens meanwhile.

use super::{artifact, leftovers};
use crate::support::project::{Project, files_of};
use crate::support::server::{Place, docker, wait_for};
use std::fs;

/// A service that takes its whole grace period to stop, so that there is a moment while only the others are.
const STUBBORN: &str = "    entrypoint: [sh, -c, \"trap '' TERM; sleep infinity & wait; sleep infinity\"]\n    stop_grace_period: 4s\n";

fn status(project: &Project, service: &str) -> String {
    project.inspect(service, "{{.State.Status}}")
}

#[test]
fn stopped_containers_start_again_in_their_order() {
    let (project, place) = (Project::start("order"), Place::new());
    let since = project.inspect("api", "{{.State.StartedAt}}");
    place
        .run(&["backup", &project.name, "--quiesce", "stop"])
        .expect_code(0);
    let name = format!("volume/{}", project.volume());
    assert_eq!(artifact(&place, "latest", &name)["consistency"], "stopped");
    assert!(project.runs());
    let started = |service: &str| project.inspect(service, "{{.State.StartedAt}}");
    let finished = |service: &str| project.inspect(service, "{{.State.FinishedAt}}");
    // RFC 3339 with the same zone: text sorts as time does.
    assert!(
        since < finished("web") && finished("web") <= finished("api"),
        "web needs api"
    );
    assert!(finished("api") < started("api") && started("api") <= started("web"));
    assert_eq!(
        leftovers(&format!("dev.lifeboat.stack={}", project.name)),
        ""
    );
}

#[test]
fn labels_say_what_is_done_to_a_container() {
    let label = |how: &str| format!("    labels: {{lifeboat.quiesce: {how}}}\n");
    let consistency = |what: &str, api: &str, web: &str, arguments: &[&str]| {
        let (project, place) = (
            Project::with(what, &label(api), &label(web), "  files: {}\n"),
            Place::new(),
        );
        let since = project.inspect("api", "{{.State.StartedAt}}");
        place
            .run(&[&["backup", &project.name], arguments].concat())
            .expect_code(0);
        let stayed = since == project.inspect("api", "{{.State.StartedAt}}");
        assert!(project.runs());
        let name = format!("volume/{}", project.volume());
        let consistency = artifact(&place, "latest", &name)["consistency"].clone();
        (consistency.as_str().unwrap().to_owned(), stayed)
    };
    assert_eq!(
        consistency("pause", "pause", "stop", &[]),
        ("paused".to_owned(), true)
    );
    assert_eq!(
        consistency("none", "none", "stop", &["--quiesce", "stop"]),
        ("live".to_owned(), true)
    );
    let (project, place) = (
        Project::with("wrong", &label("freeze"), "", "  files: {}\n"),
        Place::new(),
    );
    place.run(&["backup", &project.name]).expect_code(2).says(&[
        "lifeboat.quiesce=freeze",
        "hint: it can be stop, pause or none",
    ]);
}

#[test]
fn a_killed_run_leaves_nothing_stopped_after_the_next_command() {
    let (project, place) = (
        Project::with("killed", STUBBORN, "", "  files: {}\n"),
        Place::new(),
    );
    for next in [
        &["volume", "ls", "--no-sizes"][..],
        &["backup", &project.name],
    ] {
        let run = place.spawn(&["backup", &project.name, "--quiesce", "stop"]);
        wait_for("web is stopped", || status(&project, "web") == "exited");
        run.kill();
        assert!(leftovers(&format!("dev.lifeboat.stack={}", project.name)).contains("quiesced"));
        let ran = place.run(next).expect_code(0);
        wait_for("all run", || project.runs());
        assert!(ran.stderr.contains("died before its end"), "{}", ran.stderr);
        // Another test's command may be putting the same thing right at this moment, under its lock.
        wait_for("nothing is left", || {
            leftovers(&format!("dev.lifeboat.stack={}", project.name)).is_empty()
        });
    }
}

#[test]
fn a_killed_run_on_containers_that_were_made_anew_starts_the_new_ones() {
    let (project, place) = (
        Project::with("anew", STUBBORN, "", "  files: {}\n"),
        Place::new(),
    );
    let run = place.spawn(&["backup", &project.name, "--quiesce", "stop"]);
    wait_for("web is stopped", || status(&project, "web") == "exited");
    run.kill();
    let old = project.inspect("web", "{{.Id}}");
    let made = project.compose(&["up", "--no-start", "--force-recreate", "--timeout", "0"]);
    assert!(made.status.success(), "{made:?}");
    assert_ne!(old, project.inspect("web", "{{.Id}}"));
    assert_ne!(status(&project, "web"), "running");
    place.run(&["volume", "ls", "--no-sizes"]).expect_code(0);
    wait_for("all run", || project.runs());
}

#[test]
fn an_interrupted_run_starts_everything_before_it_ends() {
    let (project, place) = (
        Project::with("interrupted", STUBBORN, "", "  files: {}\n"),
        Place::new(),
    );
    let run = place.spawn(&["backup", &project.name, "--quiesce", "stop"]);
    wait_for("web is stopped", || status(&project, "web") == "exited");
    run.signal("TERM");
    run.end().expect_code(130);
    wait_for("all run", || project.runs());
    assert_eq!(place.list(), []);
    assert_eq!(
        leftovers(&format!("dev.lifeboat.stack={}", project.name)),
        ""
    );
}

#[test]
fn a_failed_capture_starts_everything_again() {
    // The volume's device is not there: its helper cannot be started, which is known before anything is stopped.
    let volumes =
        "  files: {}\n  gone: {driver_opts: {type: none, o: bind, device: /nowhere/at/all}}\n";
    let (project, place) = (Project::with("gone", "", "", "  files: {}\n"), Place::new());
    let since = project.inspect("api", "{{.State.StartedAt}}");
    let text = fs::read_to_string(project.file()).unwrap();
    fs::write(project.file(), text.replace("  files: {}\n", volumes)).unwrap();
    let label = format!("com.docker.compose.project={}", project.name);
    let gone = format!("{}_gone", project.name);
    docker(&[
        "volume",
        "create",
        "--label",
        &label,
        "--opt",
        "type=none",
        "--opt",
        "o=bind",
        "--opt",
        "device=/nowhere/at/all",
        &gone,
    ]);
    let ran = place
        .run(&["backup", &project.name, "--quiesce", "stop"])
        .expect_code(1);
    docker(&["volume", "rm", &gone]);
    assert!(ran.stderr.contains("/nowhere/at/all"), "{}", ran.stderr);
    assert_eq!(place.list(), []);
    assert_eq!(
        since,
        project.inspect("api", "{{.State.StartedAt}}"),
        "nothing was stopped"
    );
}

#[test]
fn a_file_that_changes_while_it_is_read_is_told() {
    let (project, place) = (Project::start("changing"), Place::new());
    let volume = project.volume();
    project.sh("api", "head -c 300000000 /dev/urandom >/files/big");
    // Its length and its time change all the while.
    docker(&[
        "exec",
        "-d",
        &project.container("api"),
        "sh",
        "-c",
        "while :; do echo x >>/files/big; done",
    ]);
    let made = place
        .run(&["backup", &project.name, "--json"])
        .expect_code(0)
        .json();
    let warnings = made["warnings"].to_string();
    assert!(
        warnings.contains("changed while it was read: big"),
        "{warnings}"
    );
    assert_eq!(
        artifact(&place, "latest", &format!("volume/{volume}"))["consistency"],
        "live"
    );
    place.run(&["verify", "latest", "--deep"]).expect_code(0);
    // While who writes to it is frozen it cannot change.
    let made = place
        .run(&["backup", &project.name, "--quiesce", "pause", "--json"])
        .expect_code(0)
        .json();
    assert_eq!(made["warnings"].as_array().unwrap().len(), 0, "{made}");
}

#[test]
fn a_helper_has_no_more_rights_than_it_needs_and_is_swept() {
    let (project, place) = (Project::start("rights"), Place::new());
    let sparse = fs::File::create(files_of(&project.volume()).join("sparse")).unwrap();
    sparse.set_len(200 << 30).unwrap();
    let run = place.spawn(&["backup", &project.name]);
    let label = "label=dev.lifeboat.role=helper";
    let of_volume = format!("volume={}", project.volume());
    let mut id = String::new();
    wait_for("the helper runs", || {
        id = docker(&["ps", "-q", "--filter", label, "--filter", &of_volume]);
        !id.is_empty()
    });
    let inspect = |format: &str| docker(&["inspect", "--format", format, &id]);
    assert_eq!(inspect("{{.HostConfig.NetworkMode}}"), "none");
    assert_eq!(inspect("{{.HostConfig.ReadonlyRootfs}}"), "true");
    assert_eq!(inspect("{{.HostConfig.CapDrop}}"), "[ALL]");
    assert_eq!(inspect("{{.HostConfig.CapAdd}}"), "[DAC_READ_SEARCH]");
    assert_eq!(inspect("{{.HostConfig.LogConfig.Type}}"), "none");
    assert_eq!(inspect("{{.HostConfig.Privileged}}"), "false");
    assert!(!inspect("{{range .Mounts}}{{.RW}} {{end}}").contains("true"));
    assert!(inspect("{{.HostConfig.SecurityOpt}}").contains("no-new-privileges"));
    assert_eq!(inspect("{{.HostConfig.Memory}}"), (512 << 20).to_string());
    run.kill();
    wait_for("it ends with who started it", || {
        docker(&["ps", "-q", "--filter", label, "--filter", &of_volume]).is_empty()
    });
    fs::remove_file(files_of(&project.volume()).join("sparse")).unwrap();
    assert_eq!(place.list(), []);
    place.run(&["backup", &project.name]).expect_code(0);
    let left = docker(&["ps", "-aq", "--filter", label, "--filter", &of_volume]);
    assert_eq!(left, "", "the next run sweeps it");
}
