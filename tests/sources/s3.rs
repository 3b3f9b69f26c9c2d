//! A store that speaks S3.

use std::process::Command;

use crate::servers::{ACCESS_KEY, SECRET_KEY, Store};
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
