//! Manifests that an enemy wrote, with digests that fit: whoever can write the repository can
//! make everything in it agree.

use super::*;
use crate::error::Kind;
use crate::repository::sums::{Sums, digest};
use serde_json::Value;

/// Rewrites the manifest and the commit, and then every digest above them.
fn forge(root: &Path, change: impl Fn(&mut Value, &mut Value)) {
    let folder = root.join(format!("shop/{}", id(0)));
    let commit_path = root.join(format!("shop/{}.backup.json", id(0)));
    let mut manifest: Value =
        serde_json::from_slice(&fs::read(folder.join("manifest.json")).unwrap()).unwrap();
    let mut commit: Value = serde_json::from_slice(&fs::read(&commit_path).unwrap()).unwrap();
    change(&mut manifest, &mut commit);
    fs::write(folder.join("manifest.json"), manifest.to_string()).unwrap();
    let mut sums = Sums::default();
    for file in files(&folder) {
        let key = file.to_str().unwrap();
        if key != "SHA256SUMS" {
            sums.add(key, &digest(&fs::read(folder.join(key)).unwrap()));
        }
    }
    fs::write(folder.join("SHA256SUMS"), sums.to_text()).unwrap();
    commit["sha256sums"] = digest(sums.to_text().as_bytes()).into();
    fs::write(commit_path, format!("{commit}\n")).unwrap();
}

type Forgery = (&'static str, fn(&mut Value, &mut Value));

fn first_key(manifest: &mut Value) -> &mut Value {
    &mut manifest["artifacts"][0]["objects"][0]["key"]
}

fn both(manifest: &mut Value, commit: &mut Value, field: &str, value: Value) {
    manifest[field] = value.clone();
    commit[field] = value;
}

const FORGERIES: [Forgery; 21] = [
    ("parent", |m, _| *first_key(m) = "../../../secret".into()),
    ("inner parent", |m, _| {
        *first_key(m) = "postgres/../../../../secret".into();
    }),
    ("absolute", |m, _| *first_key(m) = "/etc/passwd".into()),
    ("control characters", |m, _| {
        *first_key(m) = "a\u{1b}[2Jb\n".into();
    }),
    ("long", |m, _| *first_key(m) = "x".repeat(5000).into()),
    ("another's key", |m, _| {
        *first_key(m) = "volume/empty.tar.zst".into();
    }),
    ("manifest as artifact", |m, _| {
        *first_key(m) = "manifest.json".into();
    }),
    ("encoded otherwise", |m, _| {
        *first_key(m) = "postgres/postgres/db/%73hop.dump.zst".into();
    }),
    ("enormous object", |m, _| {
        m["artifacts"][0]["objects"][0]["size"] = u64::MAX.into();
    }),
    ("enormous sums", |m, c| {
        m["artifacts"][0]["objects"][0]["size"] = u64::MAX.into();
        m["artifacts"][0]["stored_size"] = 149_999.into();
        c["stored_size"] = 150_004.into();
    }),
    ("a size too large", |m, c| {
        m["artifacts"][1]["objects"][0]["size"] = 6.into();
        m["artifacts"][1]["stored_size"] = 6.into();
        c["stored_size"] = 250_006.into();
    }),
    ("negative size", |m, _| {
        m["artifacts"][0]["objects"][0]["size"] = (-1).into();
    }),
    ("fraction", |m, _| {
        m["artifacts"][0]["raw_size"] = 1.5.into();
    }),
    ("duplicate", |m, c| {
        let copy = m["artifacts"][0].clone();
        m["artifacts"].as_array_mut().unwrap().push(copy);
        let name = c["artifacts"][0].clone();
        c["artifacts"].as_array_mut().unwrap().push(name);
    }),
    ("no objects", |m, _| {
        m["artifacts"][0]["objects"] = json!([]);
    }),
    ("wrong type", |m, _| m["artifacts"] = json!({"0": 1})),
    ("name that is no name", |m, _| {
        m["artifacts"][0]["name"] = "postgres/../x".into();
    }),
    ("other stack", |m, c| both(m, c, "stack", "bank".into())),
    ("other id", |m, c| {
        both(m, c, "backup", id(7).to_string().into());
    }),
    ("other id inside", |m, _| {
        m["backup"] = id(7).to_string().into();
    }),
    ("another format", |m, c| both(m, c, "format", 2.into())),
];

#[tokio::test]
async fn forged_manifests_are_damage_and_lead_nowhere() {
    let (_dir, good) = repository().await;
    back_up(&good, "shop", &id(0), &three()).await.unwrap();
    for (what, change) in FORGERIES {
        let copy = tempfile::tempdir().unwrap();
        fs::write(copy.path().join("secret"), "s3cret").unwrap();
        let copied = copy.path().join("repo");
        copy_tree(root(&good), &copied);
        forge(&copied, change);
        let repository = open(&Location::directory(&copied)).await.unwrap();
        let error = verify(&repository, "shop").await.expect_err(what);
        assert_eq!(error.kind(), Kind::Damaged, "{what}: {}", error.chain());
        let said = error.chain();
        assert!(
            !said.contains("s3cret") && !said.contains('\u{1b}'),
            "{what}: {said}"
        );
        assert!(said.len() < 600, "{what}: {said}");
        assert_eq!(python_reader(&copied).0, 13, "{what}");
    }
    // A forger who changes nothing is none: the digests alone do not make the failures above.
    forge(root(&good), |_, _| {});
    verify(&good, "shop").await.unwrap();
    // Nor does a field that a later writer adds.
    forge(root(&good), |m, c| {
        both(m, c, "later", json!([1]));
    });
    verify(&good, "shop").await.unwrap();
    assert_eq!(python_reader(root(&good)).0, 0);
}

/// JSON that unpacks to more than anyone has memory for.
#[tokio::test]
async fn a_bomb_does_not_go_off() {
    let (_dir, repository) = repository().await;
    back_up(&repository, "shop", &id(0), &three())
        .await
        .unwrap();
    let root = root(&repository);
    let facts = root.join(format!("shop/{}/facts.json.zst", id(0)));
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    let spaces = vec![b' '; 1 << 20];
    for _ in 0..300 {
        std::io::Write::write_all(&mut encoder, &spaces).unwrap();
    }
    fs::write(facts, encoder.finish().unwrap()).unwrap();
    forge(root, |_, _| {});
    let entry = repository.resolve("latest", None).await.unwrap();
    let backup = repository.open_backup(&entry).await.unwrap();
    assert_eq!(backup.facts().await.unwrap_err().kind(), Kind::Damaged);
    // A small object that is none.
    let recipe = root.join(format!("shop/{}/RESTORE.md", id(0)));
    fs::File::create(recipe).unwrap().set_len(65 << 20).unwrap();
    assert_eq!(backup.restore_md().await.unwrap_err().kind(), Kind::Damaged);
}

/// An object that really stands under a key of the forger's choice, with a digest that fits.
#[tokio::test]
async fn a_key_that_does_not_follow_from_its_name_is_damage() {
    for moved in ["volume/other.tar.zst", "volume/empty.tar", "RESTORE.md.age"] {
        let (_dir, repository) = repository().await;
        back_up(&repository, "shop", &id(0), &three())
            .await
            .unwrap();
        let root = root(&repository);
        let folder = root.join(format!("shop/{}", id(0)));
        fs::rename(folder.join("volume/empty.tar.zst"), folder.join(moved)).unwrap();
        forge(root, |m, _| {
            m["artifacts"][2]["objects"][0]["key"] = moved.into();
        });
        let error = verify(&repository, "shop").await.expect_err(moved);
        assert_eq!(error.kind(), Kind::Damaged, "{moved}: {}", error.chain());
        assert_eq!(python_reader(root).0, 13, "{moved}");
    }
}

/// Sizes whose sum, counted in 64 bits, comes out right again.
#[test]
fn sizes_do_not_wrap_around() {
    let object = |index: usize, size| ObjectRef {
        key: crate::repository::object_key(&name("volume/v"), &[Encoding::Zstd], index),
        size,
        sha256: digest(b""),
    };
    let mut forged = artifact(&name("volume/v"), vec![object(0, 5)]);
    let check = |artifact: &Artifact| {
        crate::repository::check::check_artifacts("shop/x", std::slice::from_ref(artifact))
    };
    check(&forged).unwrap();
    forged.objects = vec![object(0, u64::MAX), object(1, 6)];
    assert_eq!(check(&forged).unwrap_err().kind(), Kind::Damaged);
}
