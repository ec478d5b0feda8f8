use super::*;
use crate::event::Unobserved;
use std::collections::BTreeMap;

fn service(name: &str, running: bool, labels: &[(&str, &str)]) -> Service {
    Service {
        name: name.to_owned(),
        container_id: format!("id-{name}"),
        container_name: format!("shop-{name}-1"),
        image: String::new(),
        image_id: String::new(),
        image_digest: None,
        running,
        state: if running { "running" } else { "exited" }.to_owned(),
        labels: labels
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        env: BTreeMap::new(),
        command: Vec::new(),
        mounts: Vec::new(),
        user: None,
        nano_cpus: 0,
        memory: 0,
    }
}

fn scheduled_hook(word: &str) -> Hook {
    Hook {
        command: vec![word.to_owned(), "--token".to_owned(), "canary".to_owned()],
        service: None,
        time_limit: TIME,
    }
}

fn steps(steps: Vec<Step>) -> Vec<String> {
    let texts = steps.into_iter().map(|step| step.to_string());
    texts.collect()
}

#[test]
fn those_after_the_backup_run_the_other_way_round() {
    let both = [("lifeboat.pre", "on"), ("lifeboat.post", "off")];
    let stack = Stack {
        name: "shop".to_owned(),
        services: vec![
            service("api", true, &both),
            service("disabled", true, &[both[0], ("lifeboat.enable", "false")]),
            service(
                "empty",
                true,
                &[("lifeboat.pre", ""), ("lifeboat.post", " ")],
            ),
            service("stopped", false, &both),
            service("web", true, &both),
        ],
    };
    let hooks = Hooks {
        before: vec![scheduled_hook("one"), scheduled_hook("two")],
        after: vec![scheduled_hook("three"), scheduled_hook("four")],
    };
    let around = Around::of(&stack, &hooks, &Unobserved).unwrap();
    let host = |word| format!("run `{word} --token '***'` on this machine");
    let (api, web) = (" in shop-api-1", " in shop-web-1");
    assert_eq!(
        steps(around.before),
        [
            host("one"),
            host("two"),
            format!("run `on`{api}"),
            format!("run `on`{web}")
        ]
    );
    assert_eq!(
        steps(around.after),
        [
            format!("run `off`{web}"),
            format!("run `off`{api}"),
            host("three"),
            host("four")
        ]
    );
}

#[test]
fn a_time_limit_is_the_containers_own() {
    let labels = [
        ("lifeboat.pre", "sh -c 'a b' \"c\""),
        ("lifeboat.hook-time-limit", "1500ms"),
        ("lifeboat.exec-user", "app"),
    ];
    let call = labelled(&service("api", true, &labels), "lifeboat.pre");
    let call = call.unwrap().unwrap();
    assert_eq!(call.command, ["sh", "-c", "a b", "c"]);
    assert_eq!(call.time_limit(), Duration::from_millis(1500));
    assert_eq!(call.container.unwrap().user.as_deref(), Some("app"));
}

#[test]
fn what_is_printed_of_a_plan_holds_no_secret() {
    let call = HookCall::new(scheduled_hook("x").command, None, TIME);
    let step = presentable(Step::RunHook {
        when: When::Before,
        hook: call,
    });
    let text = serde_json::to_string(&step).unwrap();
    assert!(text.contains("***") && !text.contains("canary"), "{text}");
}
