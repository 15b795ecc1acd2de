use proptest::prelude::*;

use super::*;

fn meta(phx_ref: &str, previous: Option<&str>, data: &str) -> Meta {
    Meta { phx_ref: phx_ref.into(), previous: previous.map(Into::into), data: Bytes::copy_from_slice(data.as_bytes()) }
}

fn slot(owner: u64, session: u64) -> Slot {
    Slot { owner, origin: Origin { session, channel: 1 } }
}

fn json(list: &PresenceList, style: Style) -> String {
    let mut out = Vec::new();
    list.write(&mut out, style);
    String::from_utf8(out).expect("UTF-8")
}

#[test]
fn an_update_is_one_leave_and_one_join() {
    let mut presences = Presences::default();
    presences.upsert(slot(1, 1), "ann", meta("r1", None, "{\"n\":1}"));
    presences.take_diff();
    presences.upsert(slot(1, 1), "ann", meta("r2", Some("r1"), "{\"n\":2}"));
    let diff = presences.take_diff().expect("a change");
    assert_eq!(json(&diff.joins, Style::Standard), r#"{"ann":{"metas":[{"phx_ref":"r2","phx_ref_prev":"r1","n":2}]}}"#);
    assert_eq!(json(&diff.leaves, Style::Standard), r#"{"ann":{"metas":[{"phx_ref":"r1","n":1}]}}"#);
    // The same again is no change, and what was replaced in between need not have been seen.
    presences.upsert(slot(1, 1), "ann", meta("r2", Some("r1"), "{\"n\":2}"));
    assert_eq!(presences.take_diff(), None);
    presences.upsert(slot(1, 1), "ann", meta("r4", Some("r3"), "{}"));
    let diff = presences.take_diff().expect("a change");
    assert_eq!(json(&diff.leaves, Style::Bare), r#"{"ann":[{"phx_ref":"r2","phx_ref_prev":"r1","n":2}]}"#);
}

#[test]
fn a_key_has_several_metas_and_gateways() {
    let mut presences = Presences::default();
    presences.upsert(slot(1, 1), "ann", meta("r1", None, "{}"));
    presences.upsert(slot(2, 2), "ann", meta("r2", None, "{\"tab\":2}"));
    presences.upsert(slot(2, 3), "bob", meta("r3", None, "{}"));
    let state = presences.snapshot().state;
    assert_eq!(
        json(&state, Style::Bare),
        r#"{"ann":[{"phx_ref":"r1"},{"phx_ref":"r2","tab":2}],"bob":[{"phx_ref":"r3"}]}"#
    );
    [slot(2, 2), slot(2, 3)].into_iter().for_each(|gone| presences.remove(gone));
    let diff = presences.take_diff().expect("a change");
    assert!(diff.joins.is_empty());
    assert_eq!(json(&diff.leaves, Style::Bare), r#"{"ann":[{"phx_ref":"r2","tab":2}],"bob":[{"phx_ref":"r3"}]}"#);
    assert!(!presences.is_empty());
}

#[test]
fn what_nobody_was_told_of_leaves_without_a_word() {
    let mut presences = Presences::default();
    presences.upsert(slot(1, 1), "ann", meta("r1", None, "{}"));
    presences.remove(slot(1, 1));
    assert_eq!(presences.take_diff(), None);
    assert!(presences.is_empty());
}

#[derive(Clone, Debug)]
enum Step {
    Upsert { slot: Slot, key: u8, number: u8 },
    Remove(Slot),
    RemoveOwner(u64),
    Diff,
    Join,
}

fn step() -> impl Strategy<Value = Step> {
    let slots = || (0..3u64, 0..3u64).prop_map(|(owner, session)| slot(owner, session));
    prop_oneof![
        4 => (slots(), 0..2u8, 0..4u8).prop_map(|(slot, key, number)| Step::Upsert { slot, key, number }),
        2 => slots().prop_map(Step::Remove),
        1 => (0..3u64).prop_map(Step::RemoveOwner),
        2 => Just(Step::Diff),
        2 => Just(Step::Join),
    ]
}

/// A client's view: applies differences to the state that it was given, and insists that they fit.
#[derive(Default)]
struct View(BTreeMap<String, Vec<String>>);

impl View {
    fn of(list: &PresenceList) -> Self {
        let mut view = Self::default();
        view.add(list);
        view
    }

    fn add(&mut self, list: &PresenceList) {
        for (key, metas) in list.iter() {
            for meta in metas {
                let refs = self.0.entry(key.to_owned()).or_default();
                assert!(!refs.iter().any(|known| **known == *meta.phx_ref), "joined twice");
                refs.push(meta.phx_ref.to_string());
                refs.sort();
            }
        }
    }

    fn apply(&mut self, diff: &PresenceDiff) {
        // Clients apply joins before leaves.
        self.add(&diff.joins);
        for (key, metas) in diff.leaves.iter() {
            let refs = self.0.get_mut(key).expect("a key that left was there");
            for meta in metas {
                let index = refs.iter().position(|known| **known == *meta.phx_ref).expect("what left was there");
                refs.remove(index);
            }
            if refs.is_empty() {
                self.0.remove(key);
            }
        }
    }
}

proptest! {
    #[test]
    fn every_members_view_stays_the_state(steps in proptest::collection::vec(step(), 0..60)) {
        let mut presences = Presences::default();
        let mut views: Vec<View> = Vec::new();
        // What each slot should hold.
        let mut model: BTreeMap<Slot, (String, String)> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Upsert { slot, key, number } => {
                    let phx_ref = format!("{}-{}-{key}-{number}", slot.owner, slot.origin.session);
                    let previous = model.get(&slot).map(|(_, phx_ref)| phx_ref.clone());
                    presences.upsert(slot, &key.to_string(), meta(&phx_ref, previous.as_deref(), "{}"));
                    model.insert(slot, (key.to_string(), phx_ref));
                }
                Step::Remove(slot) => {
                    presences.remove(slot);
                    model.remove(&slot);
                }
                Step::RemoveOwner(owner) => {
                    (0..3).for_each(|session| presences.remove(slot(owner, session)));
                    model.retain(|slot, _| slot.owner != owner);
                }
                Step::Diff => {
                    if let Some(diff) = presences.take_diff() {
                        views.iter_mut().for_each(|view| view.apply(&diff));
                    }
                }
                Step::Join => {
                    let snapshot = presences.snapshot();
                    if let Some(diff) = snapshot.pending {
                        views.iter_mut().for_each(|view| view.apply(&diff));
                    }
                    views.push(View::of(&snapshot.state));
                }
            }
        }
        let last = presences.snapshot();
        if let Some(diff) = last.pending {
            views.iter_mut().for_each(|view| view.apply(&diff));
        }
        let mut expected = View::default();
        for (key, phx_ref) in model.into_values() {
            expected.0.entry(key).or_default().push(phx_ref);
        }
        expected.0.values_mut().for_each(|refs| refs.sort());
        prop_assert_eq!(&View::of(&last.state).0, &expected.0);
        for view in &views {
            prop_assert_eq!(&view.0, &expected.0);
        }
    }
}
