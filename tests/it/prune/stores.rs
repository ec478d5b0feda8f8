//! Prune in buckets: every kind of store, stores that keep what they have, and what is asked of them.

use super::{context, days_ago, keep, keep_last, now};
use crate::support::fabricated::{Fabricated, keys};
use crate::support::proxy::{Fault, Proxy, Seen};
use crate::support::server::{Place, unique};
use chrono::TimeDelta;
use lifeboat::event::Unobserved;
use lifeboat::operation::prune::prune;
use lifeboat::repository::{Access, Location, Repository};
use lifeboat::schedule::Rules;
use std::collections::BTreeMap;
use std::time::Duration;

/// Azurite's account and key, which are the same everywhere and no secret.
const ACCOUNT: &str = "devstoreaccount1";
const KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

#[expect(
    clippy::disallowed_methods,
    reason = "tests are told by the lab's environment"
)]
fn endpoint(variable: &str) -> String {
    std::env::var(variable).expect("tests/lab/lab stores; eval \"$(tests/lab/lab env)\"")
}

fn s3_endpoint() -> String {
    endpoint("LIFEBOAT_LAB_S3")
}

/// An empty repository in a bucket, and a machine that has never seen it.
struct Bucket {
    scheme: &'static str,
    endpoint: String,
    prefix: String,
    access: Access,
    machine: Place,
}

impl Bucket {
    async fn new(scheme: &'static str, endpoint: String) -> Self {
        let machine = Place::without_repository();
        let access = access(scheme, &endpoint, &machine);
        let bucket = Self {
            scheme,
            endpoint,
            prefix: unique("prune"),
            access,
            machine,
        };
        let location = bucket.location();
        Repository::init(&location, &bucket.access, now())
            .await
            .unwrap();
        bucket
    }

    fn location(&self) -> Location {
        let address = format!("{}://lifeboat-tests/{}", self.scheme, self.prefix);
        address.parse().unwrap()
    }

    async fn open(&self) -> Repository {
        Repository::open(&self.location(), &self.access)
            .await
            .unwrap()
    }

    /// Puts what a directory holds of some backups there, as lifeboat copies it.
    async fn copy(&self, from: &Place) {
        let source = Repository::open(&Location::directory(&from.repository), &Access::default())
            .await
            .unwrap();
        let here = self.open().await;
        for entry in source.list("shop").await.unwrap() {
            let backup = source.open_backup(&entry).await.unwrap();
            here.copy_in(&backup, |_, _| {}).await.unwrap();
            if let Some(pin) = &entry.pinned {
                here.pin(&entry, &pin.reason, now()).await.unwrap();
            }
        }
        self.access.close().await;
    }

    /// Puts every file of a directory's stack there as it is. moto wants a signature, and looks into none.
    async fn put_files(&self, from: &Place) {
        let client = reqwest::Client::new();
        let signed = "AWS4-HMAC-SHA256 Credential=key/20261122/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0";
        let of_stack = |key: &String| key.starts_with("shop/");
        for key in keys(&from.repository).into_iter().filter(of_stack) {
            let bytes = std::fs::read(from.repository.join(&key)).unwrap();
            let address = format!(
                "{}/lifeboat-tests/{}/{}",
                s3_endpoint(),
                self.prefix,
                key.replace('%', "%25")
            );
            let put = client.put(address).header("Authorization", signed);
            let put = put.body(bytes).send().await.unwrap();
            assert!(put.status().is_success(), "{put:?}");
        }
    }

    async fn ids(&self) -> Vec<String> {
        let listed = self.open().await.list("shop").await.unwrap();
        listed.iter().map(|entry| entry.id.to_string()).collect()
    }

    async fn verify_all(&self) {
        let repository = self.open().await;
        for entry in repository.list("shop").await.unwrap() {
            let backup = repository.open_backup(&entry).await.unwrap();
            let report = backup.verify_objects(|_, _| {}).await.unwrap();
            report.into_result().unwrap();
        }
    }
}

/// What a user would set to reach a store at `endpoint`.
fn access(scheme: &str, endpoint: &str, machine: &Place) -> Access {
    let gcs = format!(
        r#"{{"gcs_base_url":"{endpoint}","disable_oauth":true,"client_email":"","private_key":"","private_key_id":""}}"#
    );
    let azure = format!("{endpoint}/{ACCOUNT}");
    let variables: &[(&str, &str)] = match scheme {
        "s3" => &[
            ("AWS_ENDPOINT_URL", endpoint),
            ("AWS_ACCESS_KEY_ID", "key"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
        ],
        "az" => &[
            ("AZURE_STORAGE_ACCOUNT", ACCOUNT),
            ("AZURE_STORAGE_KEY", KEY),
            ("AZURE_STORAGE_ENDPOINT", &azure),
        ],
        _ => &[("GOOGLE_SERVICE_ACCOUNT_KEY", &gcs)],
    };
    let variables = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Access::from_environment(variables, |_, _| unreachable!())
        .unwrap()
        .with_limits(
            Some(Duration::from_secs(5)),
            Some(Duration::from_secs(15)),
            machine.folder.path().join("cache"),
        )
}

async fn exactly_the_planned_ones_go(scheme: &'static str, endpoint: String) {
    let source = Place::new();
    let made: Vec<String> = (1..=5)
        .map(|days| days_ago(days).write(&source.repository))
        .collect();
    let redis = days_ago(6).only("redis").write(&source.repository);
    let partial = days_ago(7).partial().write(&source.repository);
    source.run(&["pin", &made[3]]).expect_code(0);
    let bucket = Bucket::new(scheme, endpoint).await;
    bucket.copy(&source).await;
    let repository = bucket.open().await;
    let context = context(bucket.machine.folder.path(), now);
    let report = prune(&context, &keep_last(&repository, 2), &Unobserved)
        .await
        .unwrap();
    let removed = [&made[2], &made[4], &partial].map(|id| format!("shop/{id}"));
    assert_eq!(report.removed, removed);
    assert!(report.retained.is_empty() && report.spared.is_empty());
    let left = [&made[0], &made[1], &made[3], &redis].map(Clone::clone);
    assert_eq!(bucket.ids().await, left);
    bucket.verify_all().await;
    // This process lives on, and lets a backup of another one in at once.
    let other = access(scheme, &bucket.endpoint, &source);
    let other = Repository::open(&bucket.location(), &other).await.unwrap();
    bucket.access.close().await;
    other.maintain().await.unwrap().release().await;
    let again = prune(&context, &keep_last(&repository, 2), &Unobserved).await;
    assert!(again.unwrap().removed.is_empty());
    bucket.access.close().await;
}

#[tokio::test]
async fn exactly_the_planned_ones_go_from_s3() {
    exactly_the_planned_ones_go("s3", s3_endpoint()).await;
}

#[tokio::test]
async fn exactly_the_planned_ones_go_from_azure() {
    exactly_the_planned_ones_go("az", endpoint("LIFEBOAT_LAB_AZURE")).await;
}

#[tokio::test]
async fn exactly_the_planned_ones_go_from_gcs() {
    exactly_the_planned_ones_go("gs", endpoint("LIFEBOAT_LAB_GCS")).await;
}

#[tokio::test]
async fn what_a_store_does_not_let_go_is_said_and_no_failure() {
    let source = Place::new();
    for days in 1..=3 {
        days_ago(days).write(&source.repository);
    }
    let proxy = Proxy::new(&s3_endpoint());
    let bucket = Bucket::new("s3", proxy.url()).await;
    bucket.put_files(&source).await;
    let before = bucket.ids().await;
    let denied = "<Error><Code>AccessDenied</Code></Error>";
    proxy.rule(move |seen: &Seen| {
        let locked = seen.method == "DELETE" && seen.path.contains("/shop/");
        locked.then_some(Fault::Answer(403, denied))
    });
    let mut machine = Place::without_repository();
    for (name, value) in [
        ("AWS_ENDPOINT_URL", proxy.url()),
        ("AWS_ACCESS_KEY_ID", "key".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "secret".to_owned()),
        ("LIFEBOAT_REPOSITORY", bucket.location().to_string()),
    ] {
        machine.env.insert(name.to_owned(), value);
    }
    let prune = ["prune", "--keep-last=1", "--yes"];
    let ran = machine.run(&prune).expect_code(0);
    let ran = ran.says(&["removed nothing", "the store does not let it go"]);
    assert_eq!(ran.stdout.matches("retained shop/").count(), 2, "{ran:?}");
    assert_eq!(bucket.ids().await, before);
    bucket.verify_all().await;
    bucket.access.close().await;
    // When the lock has run out, the next prune removes them.
    proxy.rule(|_: &Seen| None);
    machine
        .run(&prune)
        .expect_code(0)
        .says(&["removed 2 backups"]);
    assert_eq!(bucket.ids().await, before[..1]);
    bucket.access.close().await;
}

/// What a prune asks for that removes three of so many, on a machine that has listed them before: how often by what.
async fn requests(of: i64, rules: Rules) -> BTreeMap<String, usize> {
    let source = Place::new();
    for hours in 0..of {
        let backup = Fabricated::new("shop", now() - TimeDelta::hours(hours + 1));
        match hours + 3 < of {
            true => backup.write_commit(&source.repository),
            false => backup.write(&source.repository),
        };
    }
    let proxy = Proxy::new(&s3_endpoint());
    let bucket = Bucket::new("s3", proxy.url()).await;
    bucket.put_files(&source).await;
    assert_eq!(bucket.ids().await.len(), usize::try_from(of).unwrap());
    let repository = bucket.open().await;
    let context = context(bucket.machine.folder.path(), now);
    proxy.rule(|_: &Seen| None);
    let report = prune(&context, &keep(&repository, rules), &Unobserved)
        .await
        .unwrap();
    assert_eq!(report.removed.len(), 3);
    let mut asked = BTreeMap::new();
    for seen in proxy.seen() {
        let what = match seen.path.contains("manifest.json") && seen.method == "GET" {
            true => "GET manifest.json".to_owned(),
            false => seen.method,
        };
        *asked.entry(what).or_default() += 1;
    }
    bucket.access.close().await;
    asked
}

fn last(count: i64, tags: &[&str]) -> Rules {
    Rules {
        last: Some(u32::try_from(count).unwrap()),
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        ..Rules::default()
    }
}

#[tokio::test]
async fn a_prune_costs_as_much_however_many_stay() {
    let few = requests(20, last(17, &[])).await;
    assert_eq!(few, requests(200, last(197, &[])).await);
    assert_eq!(few.get("GET manifest.json"), None, "no rule asks for tags");
    // Tags are read of those that would go, and of no other.
    let tagged = requests(20, last(17, &["release"])).await;
    assert_eq!(tagged["GET manifest.json"], 3);
    assert_eq!(tagged, requests(200, last(197, &["release"])).await);
}
