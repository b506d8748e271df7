//! What clients and readers do in a world, and when. Never says what is right.

use api::node::Stamp;
use engine::LogTime;

use super::{What, World};
use crate::client::Sending;
use crate::marks::Mark;
use crate::node::{MS, SECOND};

impl World {
    /// One command more of a client, or its last one again.
    pub(super) fn client_acts(&mut self, client: usize) {
        if !self.serves() || self.stopping {
            let wait = self.pace.between(100, 3_000) * MS;
            return self.after(wait, What::Act { client });
        }
        if self.clients.waits(client) {
            return self.send_again(client);
        }
        let Some(node) = &self.nodes[0] else { return };
        let stamp = node.stamp(self.at);
        let new = self.clients.new_command(client, stamp.at(), &mut self.judge);
        self.send(client, stamp, new);
    }

    pub(super) fn send_again(&mut self, client: usize) {
        let Some(node) = &self.nodes[0] else { return };
        let stamp = node.stamp(self.at);
        let Some(again) = self.clients.again(client, stamp.at(), false, &mut self.judge) else {
            // Without a key it is not known what became of it, and it must not be sent twice.
            let wait = self.pace.between(10, 2_000) * MS;
            return self.after(wait, What::Act { client });
        };
        self.send(client, stamp, again);
    }

    /// A client does not wait, and sends the same over and over.
    pub(super) fn burst(&mut self) {
        self.some_time(40, What::Burst);
        if self.healing || self.stopping || !self.serves() {
            return;
        }
        let client = self.pace.between(0, self.clients.len() as i64 - 1) as usize;
        for _ in 0..self.pace.between(20, 60) {
            let Some(node) = self.nodes[0].as_ref().filter(|_| self.clients.may_repeat(client)) else { return };
            let stamp = node.stamp(self.at);
            let Some(again) = self.clients.again(client, stamp.at(), true, &mut self.judge) else { return };
            self.send(client, stamp, again);
        }
    }

    pub(super) fn send(&mut self, client: usize, stamp: Stamp, (request, command, answer): Sending) {
        let slow = self.pace.one_in(if self.at < self.starved_until { 2 } else { 30 });
        let delay = self.pace.between(10, if slow { 60_000 } else { 800 }) * 1_000;
        let arrives = self.clients.in_order(client, self.at + delay);
        let Some(node) = &mut self.nodes[0] else { return };
        node.send(arrives, stamp, command, answer);
        if self.pace.one_in(15) {
            let wait = self.pace.between(1, 40) * MS;
            self.after(wait, What::Impatient { client, request });
        }
        self.look();
    }

    /// A pause of a client; sometimes up to the edge of a deadline.
    pub(super) fn at_an_edge(&mut self, client: usize, wait: i64) -> i64 {
        let shard = 1 + (client % usize::from(crate::node::TENDER_SHARDS)) as u16;
        let Some(node) = &self.nodes[0] else { return wait };
        if !self.pace.one_in(3) {
            return wait;
        }
        let Some(deadline) = self.judge.twin(shard).next_deadline() else { return wait };
        let left = (deadline - node.now(self.at).0) * MS;
        // On it, or while the core is slow to see it.
        let wide = if self.pace.one_in(2) { 40 } else { 1 };
        let edge = left + self.pace.between(-3 * wide, 2 * wide) * MS / 2;
        if (0..60 * SECOND).contains(&edge) { edge } else { wait }
    }

    pub(super) fn poison(&mut self) {
        if self.serves() && !self.stopping {
            let stamp = self.nodes[0].as_ref().map_or(LogTime(0), |node| node.now(self.at));
            self.clients.prepare_poison(stamp, &mut self.judge);
        }
        self.some_time(150, What::Poison);
    }

    /// Asks under a key, as `bid.query` does: everything sent before is settled first.
    pub(super) fn recall(&mut self) {
        if !self.serves() || self.stopping {
            return;
        }
        let Some((request, tender, key)) = self.clients.asks() else { return };
        let Some(node) = &mut self.nodes[0] else { return };
        if node.show(usize::MAX) > 0 {
            return;
        }
        let told = node.view().recall(tender, key);
        self.judge.recalled(request, told);
        self.judge.marks.hit(Mark::KeyRecalled);
    }

    pub(super) fn read(&mut self, reader: usize) {
        let wait = self.pace.between(50, 6_000) * MS;
        self.after(wait, What::Read { reader });
        let Some(node) = self.nodes[0].as_ref().filter(|_| self.at >= self.still_until) else { return };
        self.clients.reads(reader, &node.view(), &mut self.judge);
    }
}
