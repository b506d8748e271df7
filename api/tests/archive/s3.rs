//! An S3 bucket: a server in this process that checks signatures, and the program as its client.

use std::path::Path;
use std::process::{Command, Output};

use hyper_util::rt::{TokioExecutor, TokioIo};
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;
use tokio::net::TcpListener;

use crate::drill::history;
use crate::world::{World, objects};

const KEY: &str = "RTKEY";
const SECRET: &str = "a secret of the test";

/// Serves the buckets in `root`; its port.
async fn serve(root: &Path) -> u16 {
    let files = FileSystem::new(root).expect("a store");
    let mut builder = S3ServiceBuilder::new(files);
    builder.set_auth(SimpleAuth::from_single(KEY, SECRET));
    let service = builder.build();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("a client");
            let service = service.clone();
            tokio::spawn(async move {
                let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                // A client that goes is no failure.
                let _gone = server.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    port
}

async fn run(world: &World, port: u16, secret: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reversetender"));
    command
        .current_dir(world.dir.path())
        .env("AWS_ENDPOINT", format!("http://127.0.0.1:{port}"))
        .env("AWS_ALLOW_HTTP", "true")
        .env("AWS_REGION", "us-east-1")
        .env("AWS_ACCESS_KEY_ID", KEY)
        .env("AWS_SECRET_ACCESS_KEY", secret)
        .args(arguments);
    tokio::task::spawn_blocking(move || command.output().expect("it runs")).await.expect("it ends")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_takes_a_backup_and_gives_it_back() {
    let world = World::new();
    history(&world, "data", "archive").await;
    std::fs::create_dir_all(world.path("s3/bucket")).expect("made");
    let port = serve(&world.path("s3")).await;
    let backup = ["backup", "--data", "data", "--keys", "keys", "--to", "s3://bucket/a/b"];
    let said = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();

    let forged = run(&world, port, "another secret", &backup).await;
    assert_eq!(forged.status.code(), Some(1), "{}", said(&forged));
    assert!(said(&forged).contains("SignatureDoesNotMatch") || said(&forged).contains("403"), "{}", said(&forged));

    let stored = run(&world, port, SECRET, &backup).await;
    assert!(stored.status.success(), "{}", said(&stored));
    let again = run(&world, port, SECRET, &backup).await;
    assert!(String::from_utf8_lossy(&again.stdout).contains("stored 0 objects"), "{}", said(&again));
    let names = objects(&world.path("s3/bucket"));
    assert!(names.keys().any(|name| name.starts_with("a/b/log/")), "{names:?}");

    let restore = ["restore", "--from", "s3://bucket/a/b", "--data", "made", "--keys", "keys"];
    let restored = run(&world, port, SECRET, &restore).await;
    assert!(restored.status.success(), "{}", said(&restored));
    assert_eq!(world.recovered("made"), world.recovered("data"));

    // Nobody listens: told as the store's failure, with the object it was about.
    let away = run(&world, 1, SECRET, &backup).await;
    assert_eq!(away.status.code(), Some(1), "{}", said(&away));
    assert!(said(&away).contains("s3://bucket/a/b, object about"), "{}", said(&away));
}
