//! The demo: practice accounts, practice tenders of car parts, one a format, and three robots that act in them as any
//! program would, over REST and the feed of the running server. Knows nothing of the server's insides and never
//! touches its data.

mod catalogue;
mod client;
mod dice;
mod robot;
pub mod wire;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::catalogue::Practice;
use self::client::Client;
use self::dice::Dice;

/// Where a demo keeps its data unless `--data` says otherwise.
pub const DATA: &str = "./data-demo";

/// The password of every practice account. It is printed, so a demo listens on loopback only.
pub const PASSWORD: &str = "practice makes perfect";

/// Who buys in a demo.
const BUYER: Account =
    Account { email: "buyer@demo.example", name: "Huda", organisation: "Najd Motors", kind: "buyer" };
/// The supplier that waits for a person.
const GUEST: Account =
    Account { email: "supplier@demo.example", name: "You", organisation: "Your Parts Shop", kind: "supplier" };
/// The suppliers that robots play.
const ROBOTS: [Account; 3] = [
    Account { email: "robot1@demo.example", name: "Robot 1", organisation: "Gulf Auto Spares", kind: "supplier" },
    Account { email: "robot2@demo.example", name: "Robot 2", organisation: "Riyadh OEM Supply", kind: "supplier" },
    Account {
        email: "robot3@demo.example",
        name: "Robot 3",
        organisation: "Red Sea Components",
        kind: "supplier",
    },
];

/// How long a closed tender waits for a person to award it before the demo's buyer does.
const AWARD_PATIENCE: Duration = Duration::from_secs(60);
/// How long a tender that needs no award stays the newest of its format, so that its end can be looked at.
const LOOK_PATIENCE: Duration = Duration::from_secs(20);
/// How often a running tender is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long to wait after something failed, before trying again.
const PAUSE: Duration = Duration::from_secs(2);

/// A practice account.
#[derive(Clone, Copy, Debug)]
struct Account {
    email: &'static str,
    name: &'static str,
    organisation: &'static str,
    kind: &'static str,
}

/// Plays against the server at `address`, whose data lies in `data`, until `stop` is true: makes the accounts (or finds those of an earlier run),
/// tells the sign-ins on standard output, and keeps a practice tender of each format going, a new one when one is over.
///
/// # Errors
/// `address` is not loopback, or the server refused what a demo needs at the start. What goes wrong later is told in
/// the log and tried again.
pub async fn run(address: SocketAddr, data: PathBuf, mut stop: watch::Receiver<bool>) -> anyhow::Result<()> {
    ensure!(
        address.ip().is_loopback(),
        "a demo has published passwords and listens on loopback only, not on {address}"
    );
    let played = tokio::select! {
        played = play(address, &data) => played,
        () = stopped(&mut stop) => Ok(()),
    };
    played.context("the demo could not be set up")
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    while !*stop.borrow_and_update() {
        if stop.changed().await.is_err() {
            return;
        }
    }
}

async fn play(address: SocketAddr, data: &Path) -> anyhow::Result<()> {
    let buyer = set_up(address, BUYER).await?;
    let mut suppliers = Vec::new();
    for account in [GUEST].into_iter().chain(ROBOTS) {
        let client = set_up(address, account).await?;
        suppliers.push(organisation(&client).await?);
    }
    tell(address, data);
    let mut dice = Dice::new();
    let table = Table { address, buyer, suppliers, lots: watch::Sender::new(BTreeSet::new()) };
    // One connection a robot, for the lots of all formats. Dropped, and so stopped, with the demo.
    let mut robots = JoinSet::new();
    for account in ROBOTS {
        let client = Client::new(address, account.email, PASSWORD);
        robots.spawn(robot::play(client, table.lots.subscribe(), dice.split()));
    }
    let mut first = Vec::new();
    for practice in Practice::ALL {
        first.push(table.open(practice, &mut dice).await?);
    }
    let rounds = Practice::ALL.into_iter().zip(first).map(|(practice, id)| table.keep(practice, id, dice.split()));
    futures_util::future::join_all(rounds).await;
    Ok(())
}

/// What the rounds of all formats share.
struct Table {
    address: SocketAddr,
    buyer: Client,
    suppliers: Vec<String>,
    /// The lots in which robots play.
    lots: watch::Sender<BTreeSet<String>>,
}

impl Table {
    /// Keeps a practice tender going for ever, beginning with `id`.
    async fn keep(&self, practice: Practice, id: String, mut dice: Dice) {
        let mut next = Some(id);
        loop {
            let played = match next.take() {
                Some(id) => self.round(&id).await,
                None => self.open(practice, &mut dice).await.map(|id| next = Some(id)),
            };
            if let Err(error) = played {
                tracing::warn!(error = format!("{error:#}"), "A practice tender was disturbed; trying again");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// A tender to play in: the one an earlier run left, or a new one. Its address is told.
    async fn open(&self, practice: Practice, dice: &mut Dice) -> anyhow::Result<String> {
        let id = match self.unfinished(practice).await? {
            Some(id) => id,
            None => self.create(practice, dice).await?,
        };
        let tender = self.buyer.get(&format!("/v1/tenders/{id}")).await?;
        let title = tender["title"].as_str().unwrap_or("Practice tender");
        say(&format!("  {title} — http://{}/tenders/{id}", self.address));
        Ok(id)
    }

    /// One practice tender, from where it stands to its last award.
    async fn round(&self, id: &str) -> anyhow::Result<()> {
        let path = format!("/v1/tenders/{id}");
        let lots = lots(&self.buyer.get(&path).await?)?;
        self.lots.send_modify(|all| all.extend(lots.iter().cloned()));
        let played = self.until_closed(&path).await;
        self.lots.send_modify(|all| all.retain(|lot| !lots.contains(lot)));
        if played? {
            tokio::time::sleep(AWARD_PATIENCE).await;
            award(&self.buyer, &lots).await?;
        }
        Ok(())
    }

    /// Waits for the end of bidding; answers whether something is left to be decided.
    async fn until_closed(&self, path: &str) -> anyhow::Result<bool> {
        loop {
            match self.buyer.get(path).await?["stage"].as_str() {
                Some("closed") => return Ok(true),
                Some("awarded" | "unsuccessful" | "cancelled") => {
                    // Time to look at what became of it.
                    tokio::time::sleep(LOOK_PATIENCE).await;
                    return Ok(false);
                }
                _ => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    }

    /// The practice tender that an earlier run left unfinished.
    async fn unfinished(&self, practice: Practice) -> anyhow::Result<Option<String>> {
        let list = self.buyer.get("/v1/tenders?mine=true&limit=200").await?;
        let ours = list["items"].as_array().into_iter().flatten().find(|tender| {
            matches!(tender["stage"].as_str(), Some("published" | "open" | "closed"))
                && tender["reference"]
                    .as_str()
                    .is_some_and(|reference| reference.starts_with(practice.reference()))
        });
        ours.map(|tender| text(&tender["id"])).transpose()
    }

    async fn create(&self, practice: Practice, dice: &mut Dice) -> anyhow::Result<String> {
        let mut body = catalogue::tender(practice, dice);
        if let Some(notice) = practice.notice() {
            let at = jiff::Timestamp::now().checked_add(notice)?;
            body["opens_at"] = format!("{at:.3}").into();
        }
        let tender = self.buyer.post("/v1/tenders", &body).await?;
        let id = text(&tender["id"])?;
        for supplier in &self.suppliers {
            self.buyer.post(&format!("/v1/tenders/{id}/bidders"), &json!({ "organisation": supplier })).await?;
        }
        self.buyer.post(&format!("/v1/tenders/{id}/publish"), &json!({})).await?;
        if practice.notice().is_none() {
            self.buyer.post(&format!("/v1/tenders/{id}/start"), &json!({})).await?;
        }
        Ok(id)
    }
}

/// Says a line on standard output; that nobody reads it is no reason to stop.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// A signed-in client of `account`, which is signed up if it isn't yet.
async fn set_up(address: SocketAddr, account: Account) -> anyhow::Result<Client> {
    let Account { email, name, organisation, kind } = account;
    let client = Client::new(address, email, PASSWORD);
    let body = json!({
        "email": email, "password": PASSWORD, "name": name, "organisation": { "name": organisation, "kind": kind },
    });
    let answer = client.open("/v1/auth/register", &body).await?;
    let taken = answer.body["code"] == "email_taken";
    if answer.status != 201 && !taken {
        bail!("signing {email} up was answered {} {}", answer.status, answer.body);
    }
    client.sign_in().await.with_context(|| format!("signing {email} in"))?;
    Ok(client)
}

async fn organisation(client: &Client) -> anyhow::Result<String> {
    let me = client.get("/v1/me").await?;
    text(&me["organisation"]["id"])
}

fn tell(address: SocketAddr, data: &Path) {
    say(&format!("\n  Open http://{address} and sign in. The password is always: {PASSWORD}\n"));
    say(&format!("  {:<24} buys: watch, pause, award", BUYER.email));
    say(&format!("  {:<24} supplies: bid against the robots", GUEST.email));
    for robot in ROBOTS {
        say(&format!("  {:<24} a robot plays {}", robot.email, robot.organisation));
    }
    let data = data.display();
    say(&format!("\n  Stop with Ctrl-C. The data is in {data}; started again, it goes on where it was.\n"));
}

/// Awards what nobody has awarded: the first in order of each lot.
async fn award(buyer: &Client, lots: &[String]) -> anyhow::Result<()> {
    for lot in lots {
        let result = buyer.get(&format!("/v1/lots/{lot}/result")).await?;
        if result["stage"] != "closed" {
            continue;
        }
        let winner = &result["winner"];
        let (action, body) = if winner.is_null() {
            // Nobody meets the target: the first is passed by, and so on until the lot is unsuccessful.
            let first = result["ranking"].as_array().into_iter().flatten().find(|row| row["rejected"] != true);
            let bidder = first.map_or(&Value::Null, |row| &row["bidder"]);
            ("award/reject", json!({ "bidder": bidder, "reason": "Above our target." }))
        } else {
            ("award", json!({ "bidder": winner }))
        };
        buyer.post(&format!("/v1/lots/{lot}/{action}"), &body).await?;
    }
    Ok(())
}

fn lots(tender: &Value) -> anyhow::Result<Vec<String>> {
    tender["lots"].as_array().context("a tender has lots")?.iter().map(|lot| text(&lot["id"])).collect()
}

fn text(value: &Value) -> anyhow::Result<String> {
    Ok(value.as_str().with_context(|| format!("a text was expected, not {value}"))?.to_owned())
}
