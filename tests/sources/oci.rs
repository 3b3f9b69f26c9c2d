//! Registries.

use serde_json::Value as Json;

use crate::servers::Registry;
use crate::{Workshop, run};

fn push(workshop: &Workshop, registry: &Registry, tag: &str, options: &[String]) -> Json {
    let words = [
        "push-plugin".to_owned(),
        workshop.path("plugin.wasm"),
        registry.reference(tag),
        "--format".into(),
        "json".into(),
    ];
    let words = [&words[..], options].concat();
    let said = workshop.ok(&words.iter().map(String::as_str).collect::<Vec<_>>());
    serde_json::from_str(&said).unwrap()
}

fn signing(workshop: &Workshop) -> [String; 2] {
    ["--key".into(), workshop.path("ecdsa.key")]
}

#[test]
fn by_tag_and_by_digest() {
    let (workshop, registry) = (Workshop::new(), Registry::start(false));
    let pushed = push(&workshop, &registry, ":1", &signing(&workshop));
    let by_tag = registry.reference(":1");
    let by_digest = pushed["reference"].as_str().unwrap();
    workshop.runs(&mut workshop.host(&run(&by_tag, &workshop.key("ecdsa"))));
    workshop.runs(&mut workshop.host(&run(by_digest, &workshop.key("ecdsa"))));
    // Again, from the digest alone.
    workshop.runs(&mut workshop.host(&run(&by_tag, &workshop.key("ecdsa"))));
    workshop.fails(&run(&by_tag, &workshop.key("mini")), "key mini");
    workshop.fails(&run(&by_tag, &[]), "nobody vouches for it");
    workshop.fails(&run(&registry.reference(":2"), &workshop.key("ecdsa")), "the registry has no such artifact");
    // What is pushed anew under the tag is another artifact, signed or not.
    let unsigned = Registry::start(false);
    push(&workshop, &unsigned, ":1", &[]);
    workshop.fails(&run(&unsigned.reference(":1"), &workshop.key("ecdsa")), "the registry has no signature of it");
    let out = workshop.path("out.wasm");
    let key = workshop.key("ecdsa");
    workshop.ok(&["pull-plugin", &by_tag, "-o", &out, &key[0], &key[1]]);
    assert_eq!(std::fs::read(out).unwrap(), std::fs::read(workshop.at("plugin.wasm")).unwrap());
    workshop.ok(&["verify-plugin", &by_tag, &key[0], &key[1]]);
}

#[test]
fn accounts() {
    let (workshop, registry) = (Workshop::new(), Registry::start(true));
    std::fs::write(workshop.at("password"), "secret\n").unwrap();
    std::fs::write(workshop.at("wrong"), "guess\n").unwrap();
    let account = |file: &str| {
        let account = format!("127.0.0.1:{}=team:@{}", registry.port, workshop.path(file));
        ["--registry-account".to_owned(), account]
    };
    push(&workshop, &registry, ":1", &[signing(&workshop), account("password")].concat());
    let command = |options: &[String]| run(&registry.reference(":1"), &[&workshop.key("ecdsa")[..], options].concat());
    workshop.fails(&command(&[]), "the registry refuses us");
    workshop.fails(&command(&account("wrong")), "the registry refuses us");
    workshop.fails(&command(&account("absent")), "the password file");
    workshop.runs(&mut workshop.host(&command(&account("password"))));
}

#[test]
fn what_is_tampered_with_is_not_run() {
    let (workshop, registry) = (Workshop::new(), Registry::start(false));
    let pushed = push(&workshop, &registry, ":1", &signing(&workshop));
    let component = registry.blob(pushed["component"].as_str().unwrap());
    let manifest = registry.blob(pushed["manifest"].as_str().unwrap().trim_start_matches("sha256:"));
    let command = run(&registry.reference(":1"), &workshop.key("ecdsa"));
    let right = std::fs::read(&component).unwrap();
    let mut tampered = right.clone();
    let last = tampered.len() - 1;
    tampered[last] ^= 1;
    std::fs::write(&component, &tampered).unwrap();
    workshop.fails(&command, "cannot fetch");
    std::fs::write(&component, &right[..right.len() / 2]).unwrap();
    workshop.fails(&command, "cannot fetch");
    std::fs::write(&component, &right).unwrap();
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, text.replace("application/wasm", "application/json")).unwrap();
    workshop.fails(&command, "cannot fetch");
    // Another manifest under the tag, which nobody has signed.
    let document: Json = serde_json::from_str(&text).unwrap();
    let layer = document["layers"][0].clone();
    let mut media_type = layer.clone();
    media_type["mediaType"] = "application/json".into();
    for (layers, said) in [
        (vec![media_type], "its layer is application/json"),
        (vec![layer.clone(), layer.clone()], "it has 2 layers"),
        (Vec::new(), "it has 0 layers"),
        (vec![layer], "the registry has no signature of it"),
    ] {
        let mut changed = document.clone();
        (changed["layers"], changed["annotations"]) = (layers.into(), serde_json::json!({"changed": "yes"}));
        registry.put_manifest("2", &changed.to_string());
        workshop.fails(&run(&registry.reference(":2"), &workshop.key("ecdsa")), said);
    }
    std::fs::write(&manifest, &text).unwrap();
    workshop.runs(&mut workshop.host(&command));
}
