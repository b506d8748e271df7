//! One tender of each format, created on the page from a ready set of rules, run to its award with the bidders acting on
//! the page; then the same commands go through `simulate`, and the results are the same.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::cdp::{self, Browser, Page};
use super::people::{self, Server, admit, bid, check_complaints, free_address, outcome, sign_up};
use super::replay::{self, Limit};
use super::support::{self, Client};

/// How long a lot of this test may take to move on, on a slow machine.
const PATIENCE: Duration = Duration::from_secs(120);
const BUYER: &str = "Najd Motors";
/// Bidders 1 and 2 of every tender.
const BIDDERS: [&str; 2] = ["Gulf Spares", "Riyadh Parts"];

/// Everybody, each with a page.
struct People {
    _server: Server,
    _browser: Browser,
    _folder: tempfile::TempDir,
    scenarios: PathBuf,
    origin: String,
    buyer: Page,
    first: Page,
    second: Page,
    /// The buyer's program, which reads what happened.
    rest: Client,
}

impl People {
    async fn gather(program: &Path) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let address = free_address();
        let origin = format!("http://{address}");
        let server = Server::start(address, &folder.path().join("data")).await;
        let browser = Browser::start(program, &folder.path().join("profile")).await;
        let buyer = browser.page("formats-buyer").await;
        let (first, second) = (browser.page("formats-first").await, browser.page("formats-second").await);
        sign_up(&buyer, &origin, BUYER, "buyer").await;
        sign_up(&first, &origin, BIDDERS[0], "supplier").await;
        sign_up(&second, &origin, BIDDERS[1], "supplier").await;
        let client = Client { address, token: None };
        let (token, _) = support::sign_in(&client, &people::email(BUYER), people::PASSWORD).await;
        let (rest, scenarios) = (client.with_token(&token), folder.path().to_owned());
        Self { _server: server, _browser: browser, _folder: folder, scenarios, origin, buyer, first, second, rest }
    }

    /// The buyer writes a tender from the ready set `template`, admits both bidders (the second with `factor`, unless it
    /// is empty) and publishes it; both open the lot. Answers the tender's id. A field that is given no text is ticked.
    async fn publish(&self, template: &str, title: &str, factor: &str, fields: &[(&str, &str)]) -> String {
        let page = &self.buyer;
        page.go(&format!("{}/tenders/new", self.origin)).await;
        page.click(&format!("[data-template={template}] input")).await;
        page.fill("[name=title]", title).await;
        page.fill("[name=lot-0-title]", title).await;
        for (name, text) in fields {
            match *text {
                "" => page.click(&format!("[name='{name}']")).await,
                text => page.fill(&format!("[name='{name}']"), text).await,
            }
        }
        page.pictures(&format!("create-{template}")).await;
        page.click("[data-form=create] button[type=submit]").await;
        page.until("document.querySelector('.tender[data-stage=draft]')").await;
        admit(page, BIDDERS[0]).await;
        if !factor.is_empty() {
            page.click("[data-part=suppliers] summary").await;
            page.fill("[name=factor]", factor).await;
            page.picture("admit").await;
        }
        admit(page, BIDDERS[1]).await;
        page.click("[data-action=publish]").await;
        page.until("document.querySelector('.tender[data-stage=published]')").await;
        let path = page.value("location.pathname").await;
        let id =
            path.as_str().and_then(|path| path.strip_prefix("/tenders/")).expect("a tender's page").to_owned();
        let tender = self.rest.get(&format!("/v1/tenders/{id}")).await.expect(200);
        let lot = tender["lots"][0]["id"].as_str().expect("an id");
        for bidder in [&self.first, &self.second] {
            bidder.go(&format!("{}/lots/{lot}", self.origin)).await;
            bidder.until("document.querySelector('.lot[data-stage=pending]')").await;
            bidder.until("document.querySelector('[data-link=live]')").await;
        }
        id
    }

    async fn start(&self) {
        self.buyer.click("[data-action=start]").await;
        self.buyer.until("document.querySelector('.tender[data-stage=open]')").await;
        for bidder in [&self.first, &self.second] {
            bidder.until("document.querySelector('.lot[data-stage=open]')").await;
        }
        self.buyer.click("tr[data-lot='1'] a").await;
        self.buyer.until("document.querySelector('.lot[data-stage=open]')").await;
    }

    /// The buyer awards the first in order; both bidders read it.
    async fn award(&self, what: &str, winner: &str, price: &str) {
        self.buyer.within(PATIENCE, "document.querySelector('.lot[data-stage=closed]')").await;
        self.buyer.until("document.querySelector('[data-part=decision] tbody tr')").await;
        self.buyer.pictures(&format!("{what}-decide")).await;
        self.buyer.click("[data-part=decision] button.primary[data-action=award]").await;
        self.buyer.click_text("dialog button", "Award the lot").await;
        self.buyer.reads(&format!("Awarded to {winner} for {price}")).await;
    }

    async fn check(&self, tender: &str, limits: &[Limit<'_>]) -> Value {
        replay::check(&self.rest, tender, limits, &self.scenarios).await
    }
}

async fn sees(page: &Page, selector: &str) {
    page.within(PATIENCE, &format!("document.querySelector({})", json!(selector))).await;
}

async fn stays(page: &Page, level: u32) {
    sees(page, &format!("[data-part=japanese-box][data-step='{level}'][data-in=true]")).await;
    page.click(&format!("[data-action=accept][data-step='{level}']")).await;
    sees(page, &format!("[data-part=japanese-box][data-step='{level}'][data-stays=true]")).await;
}

async fn leave_limit(page: &Page, limit: &str, shown: &str) {
    page.fill("[name=limit]", limit).await;
    page.click("[data-action=set-limit]").await;
    sees(page, &format!("[data-part=limit-box][data-limit='{shown}']")).await;
}

async fn english(people: &People) {
    let fields = [
        ("lot-0-ceiling", "600"),
        ("duration_s", "0.35"),
        ("overtime.window_s", "0.1"),
        ("overtime.length_s", "0.1"),
        ("lot-0-decrement.value", "0.25"),
        ("visibility.light", ""),
    ];
    let id = people.publish("marine_fuel", "Fuel oil, 500 t", "", &fields).await;
    people.start().await;
    let People { first, second, .. } = people;
    bid(first, "590").await;
    outcome(first, "accepted", "").await;
    leave_limit(first, "550", "550.00").await;
    // Passed by the limit as soon as it bids; how low the limit goes it does not learn.
    bid(second, "580").await;
    outcome(second, "accepted", "").await;
    sees(second, "[data-part=rank][data-lead=false][data-light=yellow]").await;
    sees(first, "[data-part=rank][data-lead=true][data-light=green]").await;
    second.pictures("english").await;
    first.until("document.querySelector('[data-part=own]').innerText.includes('579.75')").await;
    assert_eq!(second.value("document.body.innerText.includes('550.00')").await, false);
    first.pictures("english").await;
    bid(second, "560.10").await;
    outcome(second, "refused", "price_tick").await;
    // A limit that was taken back bids no more.
    first.click("[data-action=clear-limit]").await;
    sees(first, "[data-part=limit-box][data-limit='']").await;
    leave_limit(first, "570", "570.00").await;
    people.award("english", BIDDERS[0], "579.75").await;
    first.reads("You won this lot at 579.75").await;
    // The first limit is the automatic price's time; what was left after it moved nothing.
    let lot = people.rest.get(&format!("/v1/tenders/{id}")).await.expect(200)["lots"][0]["id"].clone();
    let result = people.rest.get(&format!("/v1/lots/{}/result", lot.as_str().expect("an id"))).await.expect(200);
    let at = result["ranking"][0]["at"].as_str().expect("a time").to_owned();
    people.check(&id, &[Limit { bidder: 1, limit: "550.00", at: &at }]).await;
}

async fn sealed(people: &People) {
    let fields = [("lot-0-ceiling", "1000"), ("duration_s", "0.35")];
    let id = people.publish("sealed_second_price", "Freight, Jeddah to Riyadh", "0.95", &fields).await;
    people.start().await;
    let People { buyer, first, second, .. } = people;
    bid(first, "900").await;
    outcome(first, "accepted", "").await;
    bid(second, "850").await;
    outcome(second, "accepted", "").await;
    // The last bid counts, also a higher one.
    bid(second, "870").await;
    outcome(second, "accepted", "").await;
    second.until("document.querySelector('[data-part=own]').innerText.includes('870.00')").await;
    for page in [buyer, first, second] {
        page.reads("Sealed until the close").await;
    }
    // Nobody learns that anybody bid, the buyer included.
    assert_eq!(buyer.value("/900|850|870/.test(document.body.innerText)").await, false);
    assert_eq!(first.value("/850|870/.test(document.body.innerText)").await, false);
    second.pictures("sealed").await;
    buyer.pictures("sealed").await;
    // 870 × 0.95 ranks before 900; paid is the highest price that would still rank with it: 900 / 0.95, rounded down.
    people.award("sealed", BIDDERS[1], "947.36").await;
    second.reads("You won this lot at 947.36").await;
    people.check(&id, &[]).await;
}

async fn dutch(people: &People) {
    let fields = [
        ("lot-0-dutch.start", "500"),
        ("lot-0-dutch.step", "50"),
        ("lot-0-ceiling", "700"),
        ("dutch.interval_s", "7"),
    ];
    let id = people.publish("dutch", "Brake pads, today", "", &fields).await;
    let People { buyer, first, second, .. } = people;
    leave_limit(second, "600", "600.00").await;
    second.pictures("dutch-limit").await;
    people.start().await;
    first.pictures("dutch").await;
    buyer.pictures("dutch").await;
    assert_eq!(first.value("document.querySelector('[data-part=limit-box]').dataset.limit").await, "");
    sees(first, "[data-part=dutch-box][data-step='1']").await;
    first.click("[data-action=accept][data-step='1']").await;
    sees(first, ".lot[data-stage=awarded]").await;
    first.reads("You won this lot at 550.00").await;
    first.pictures("dutch-won").await;
    second.reads("550.00").await;
    let tender = people.rest.get(&format!("/v1/tenders/{id}")).await.expect(200);
    let at = tender["created_at"].as_str().expect("a time").to_owned();
    people.check(&id, &[Limit { bidder: 2, limit: "600.00", at: &at }]).await;
}

async fn japanese(people: &People) {
    let fields = [
        ("lot-0-japanese.start", "1000"),
        ("lot-0-japanese.step", "100"),
        ("lot-0-japanese.floor", "500"),
        ("japanese.interval_s", "8"),
    ];
    let id = people.publish("japanese", "Door mirrors, 40 pieces", "", &fields).await;
    people.start().await;
    let People { buyer, first, second, .. } = people;
    for level in 0..2 {
        stays(first, level).await;
        stays(second, level).await;
    }
    stays(first, 2).await;
    second.click("[data-action=let-pass]").await;
    second.reads("You will be out when this level ends.").await;
    first.picture("japanese-stays").await;
    buyer.picture("japanese-buyer").await;
    people.award("japanese", BIDDERS[0], "800.00").await;
    first.reads("You won this lot at 800.00").await;
    people.check(&id, &[]).await;
}

async fn rounds(people: &People) {
    let fields = [
        ("lot-0-ceiling", "1000"),
        ("rounds.count", "2"),
        ("rounds.turn_s", "12"),
        ("rounds.pause_s", "3"),
        ("rounds.lead_in_s", "4"),
        ("rounds.announce_s", "2"),
    ];
    let id = people.publish("prozorro_open", "School furniture", "", &fields).await;
    let People { buyer, first, second, .. } = people;
    first.reads("Only who has a bid at the opening takes part.").await;
    bid(first, "1000").await;
    outcome(first, "accepted", "").await;
    bid(second, "990").await;
    outcome(second, "accepted", "").await;
    first.pictures("rounds-before").await;
    people.start().await;
    sees(first, "[data-part=waits][data-kind=lead_in]").await;
    // The worst goes first. What is given in the turn may be taken back; nobody sees it.
    sees(first, "[data-part=own-turn][data-turn='1.1']").await;
    bid(first, "950").await;
    outcome(first, "accepted", "").await;
    second.reads("Bidder 1 has the turn").await;
    assert_eq!(second.value("document.body.innerText.includes('950.00')").await, false);
    first.click("[data-action=withdraw]").await;
    sees(first, ".withdraw [data-outcome=accepted]").await;
    bid(first, "960").await;
    first.until("document.querySelector('[data-part=own]').innerText.includes('960.00')").await;
    second.picture("rounds-waits").await;
    sees(second, "[data-part=own-turn][data-turn='1.2']").await;
    second.until("document.querySelector('[data-part=board]').innerText.includes('960.00')").await;
    bid(second, "940").await;
    outcome(second, "accepted", "").await;
    second.picture("rounds-turn").await;
    sees(first, "[data-part=own-turn][data-turn='2.1']").await;
    bid(first, "930").await;
    outcome(first, "accepted", "").await;
    buyer.picture("rounds-buyer").await;
    people.award("rounds", BIDDERS[0], "930.00").await;
    first.pictures("rounds-won").await;
    // A language that is written from right to left needs no other layout: nothing sticks out.
    first.value("document.documentElement.dir = 'rtl'").await;
    first.pictures("rounds-rtl").await;
    first.value("document.documentElement.dir = 'ltr'").await;
    people.check(&id, &[]).await;
}

/// A draft is opened again, changed and saved: what the form does not ask for stays.
async fn edit(people: &People) {
    let page = &people.buyer;
    page.go(&format!("{}/tenders/new", people.origin)).await;
    page.click("[data-template=english_buffers] input").await;
    page.fill("[name=title]", "Draft").await;
    page.fill("[name=lot-0-title]", "Draft lot").await;
    page.click("[data-form=create] button[type=submit]").await;
    page.until("document.querySelector('.tender[data-stage=draft]')").await;
    page.click("[data-action=edit]").await;
    page.fill("[name='buffer.front']", "12.5").await;
    page.fill("[name=title]", "Changed draft").await;
    page.click("[data-form=create] button[type=submit]").await;
    page.until("document.querySelector('.tender[data-stage=draft]')").await;
    page.reads("Changed draft").await;
    let path = page.value("location.pathname").await;
    let tender = people.rest.get(&format!("/v1{}", path.as_str().expect("a path"))).await.expect(200);
    let rules = &tender["lots"][0]["rules"];
    assert_eq!((&tender["title"], &rules["buffer"]["front"]), (&json!("Changed draft"), &json!("12.50")));
    assert_eq!((&rules["overtime"]["mode"], &rules["improvement"]), (&json!("add"), &json!("own_and_buffer")));
}

#[tokio::test]
async fn one_tender_of_each_format_from_form_to_award_and_again_in_simulate() {
    let Some(program) = cdp::chromium() else {
        println!("skipped: chromium is not installed, so the page was not tried in a browser");
        return;
    };
    let people = People::gather(&program).await;
    edit(&people).await;
    dutch(&people).await;
    japanese(&people).await;
    rounds(&people).await;
    sealed(&people).await;
    english(&people).await;
    for page in [&people.buyer, &people.first] {
        page.go(&format!("{}/", people.origin)).await;
        page.reads("School furniture").await;
        page.pictures("list").await;
    }
    check_complaints(&[&people.buyer, &people.first, &people.second]);
}
