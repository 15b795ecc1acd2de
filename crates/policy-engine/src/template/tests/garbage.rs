//! Whatever the text is, the compiler comes to an end.

use proptest::prelude::*;

use super::*;

const POLICIES: &[&str] = &[
    "((n = 1) AND (user_id = auth.uid()))",
    "(EXISTS ( SELECT 1 FROM public.members m WHERE ((m.room_id = messages.room_id) AND (m.user_id = auth.uid()))))",
    "(NOT (room_id IN ( SELECT m.room_id FROM public.members m WHERE (m.level > 2))))",
    "CASE WHEN ok THEN (body ~~ 'a%'::text) ELSE (lower(body) = ANY (ARRAY['x'::text])) END",
    "(((meta -> 'a'::text) ->> 0) = COALESCE(body, ('x'::text || (v)::text)))",
    "public.check(n, (auth.jwt() ->> 'a'::text))",
];

fn database() -> Database {
    let mut database = Database::new();
    database.tables.push(table(2, "members", &["id int*", "user_id uuid", "room_id int8", "level int"]));
    let arguments = [("a", 23, "integer"), ("b", 25, "text")];
    database.functions.push(function("public.check", &arguments, 16, "select a = 1 and b is not null"));
    database
}

/// Compiles with whatever the database says; of expressions, that they are texts.
fn compile_all(sql: &str) {
    let database = database();
    for source in [policy(sql), rule(sql)] {
        let mut knowledge = Knowledge::default();
        for _ in 0..MAX_ROUNDS {
            let Err(needs) = compile(&source, &knowledge) else { break };
            for need in needs {
                let fact = if matches!(need, Need::TypeOf { .. }) { Fact::TypeOf(25) } else { database.answer(&need) };
                knowledge.learn(need, fact);
            }
        }
        let template = compile_with_what_is_known(&source, &knowledge);
        let bound = template.bind(&vec![BoundValue::Value(None); template.bindings.len()], String::new);
        assert!(template.bindings.iter().all(|binding| !binding.sql.contains("messages")), "{sql}: {template:?}");
        assert!(bound.sets.len() <= template.sets.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn changed_policies_compile(
        which in 0..POLICIES.len(), other in 0..POLICIES.len(), at in any::<prop::sample::Index>(),
        drop in 0_usize..20, insert in "[ ()a-z0-9=.,'|>-]{0,8}",
    ) {
        let characters: Vec<char> = POLICIES[which].chars().collect();
        let at = at.index(characters.len());
        let text: String = characters.iter().take(at).copied().chain(insert.chars())
            .chain(characters.iter().skip(at + drop).copied()).collect();
        compile_all(&text);
        compile_all(&format!("({text}) OR {}", POLICIES[other]));
        compile_all(&POLICIES[which].replace("n = 1", POLICIES[other]).replace("ok", &text));
    }
}
