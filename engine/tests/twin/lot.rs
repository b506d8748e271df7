//! A lot before anything happened to it, and the times and numbers that everybody is told of it.

use super::{Lot, LotPlan, Ms, Plan, Tender};

impl Lot {
    pub(super) fn new(index: usize, plan: &LotPlan) -> Self {
        Self {
            number: index as u16 + 1,
            plan: plan.clone(),
            stage: "pending",
            seq: 0,
            opened_at: None,
            closed_at: None,
            opens: None,
            end: None,
            rest: 0,
            phase: None,
            inside: Vec::new(),
            order: Vec::new(),
            hidden: Vec::new(),
            given: Vec::new(),
            withdrew: false,
            limits: Vec::new(),
            prebidders: Vec::new(),
            adjustments: Vec::new(),
            drawn: Vec::new(),
            extensions: 0,
            added_ms: 0,
            standing: Vec::new(),
            initial: Vec::new(),
            accepted: Vec::new(),
            decisions: 0,
            awarded_to: None,
        }
    }

    /// The opening that everybody is told.
    pub fn opens_at(&self, tender: &Tender) -> Option<Ms> {
        match self.stage {
            "pending" | "cancelled" if self.opened_at.is_none() => self.planned_opening(&tender.plan),
            _ => self.opened_at.or(self.end),
        }
    }

    /// When a lot that has not opened will open.
    fn planned_opening(&self, tender: &Plan) -> Option<Ms> {
        if tender.lot_mode == "serial" && self.number > 1 { self.opens } else { tender.opens_at }
    }

    /// The end that everybody is told.
    pub fn closes_at(&self, tender: &Plan) -> Option<Ms> {
        match self.stage {
            "pending" => Some(self.planned_opening(tender)? + self.planned_length(tender)?),
            "paused" | "cancelled" => None,
            _ => self.end,
        }
    }

    /// The number under which a bidder is shown.
    pub fn number_of(&self, bidder: u16) -> u16 {
        self.drawn.get(usize::from(bidder) - 1).copied().unwrap_or(bidder)
    }
}
