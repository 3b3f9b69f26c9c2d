//! A store that speaks S3.

use std::process::Command;

use crate::servers::{ACCESS_KEY, Answer, SECRET_KEY, Store, Web};
use crate::support::{Outcome, run_limited};
use crate::{Workshop, check_failure, run};

fn host(workshop: &Workshop, store: &Store, reference: &str, secret: &str) -> Command {
    let endpoint = ["--s3-endpoint".to_owned(), store.endpoint()];
    let mut host = workshop.host(&run(reference, &[&workshop.key("mini")[..], &endpoint].concat()));
    host.envs([("AWS_ACCESS_KEY_ID", ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", secret), ("AWS_REGION", "us-east-1")]);
    host
}

#[test]
fn a_store_and_its_failures() {
    let (workshop, mut store) = (Workshop::new(), Store::start());
    store.put("plugin.wasm", Some(&workshop.at("plugin.wasm")));
    store.put("plugin.wasm.minisig", Some(&workshop.at("plugin.wasm.minisig")));
    store.put("unsigned.wasm", Some(&workshop.at("plugin.wasm")));
    let fails = |store: &Store, reference: &str, secret: &str, said: &str| {
        let mut host = host(&workshop, store, reference, secret);
        check_failure(&Outcome::of(&run_limited(host.args(["--", "true"]))), said);
    };
    fails(&store, "s3://plugins/plugin.wasm", "guess", "the store refuses us; check the credentials");
    fails(&store, "s3://elsewhere/plugin.wasm", SECRET_KEY, "there is no such bucket");
    fails(&store, "s3://plugins/absent.wasm", SECRET_KEY, "the bucket has no such object");
    fails(&store, "s3://plugins/unsigned.wasm", SECRET_KEY, "there is no .minisig file");
    let good = |store: &Store| workshop.runs(&mut host(&workshop, store, "s3://plugins/plugin.wasm", SECRET_KEY));
    assert_eq!(good(&store), "");
    // Unchanged.
    assert_eq!(good(&store), "");
    store.stop();
    assert!(good(&store).contains("the one of the last time is run"));
    fails(&store, "s3://plugins/other.wasm", SECRET_KEY, "cannot fetch");
    store.again();
    assert_eq!(good(&store), "");
}

/// Whatever a store does, the plugin of the last time runs, and the operator
/// is told; without one, nothing runs.
#[test]
fn a_store_that_misbehaves() {
    let (workshop, web) = (Workshop::new(), Web::start());
    let content = std::fs::read(workshop.at("plugin.wasm")).unwrap();
    let signature = std::fs::read(workshop.at("plugin.wasm.minisig")).unwrap();
    let answer = |answer: Answer| web.answer("/plugins/plugin.wasm", answer);
    let host = |secret: &str| {
        let endpoint = ["--s3-endpoint".to_owned(), format!("http://{}", web.address)];
        let mut host =
            workshop.host(&run("s3://plugins/plugin.wasm", &[&workshop.key("mini")[..], &endpoint].concat()));
        host.envs([("AWS_ACCESS_KEY_ID", ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", secret), ("AWS_REGION", "us-east-1")]);
        host
    };
    let cases = [
        (Answer::Status("500 Internal Server Error"), "500 Internal Server Error"),
        (Answer::Half(content.clone()), "cannot fetch"),
        (Answer::Silence, "cannot fetch"),
    ];
    for (wrong, said) in &cases {
        answer(wrong.clone());
        check_failure(&Outcome::of(&run_limited(host(SECRET_KEY).args(["--", "true"]))), said);
    }
    answer(Answer::Content(content));
    web.answer("/plugins/plugin.wasm.minisig", Answer::Content(signature));
    assert_eq!(workshop.runs(&mut host(SECRET_KEY)), "");
    for (wrong, said) in cases {
        answer(wrong);
        let stderr = workshop.runs(&mut host(SECRET_KEY));
        assert!(stderr.contains(said) && stderr.contains("the one of the last time is run"), "{stderr}");
    }
    // Other bytes are no failure of the store: nobody has signed them.
    answer(Answer::Content(b"\0asm rubbish".to_vec()));
    check_failure(&Outcome::of(&run_limited(host(SECRET_KEY).args(["--", "true"]))), "is not signed by a trusted key");
}
