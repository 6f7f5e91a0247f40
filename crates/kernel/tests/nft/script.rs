//! Scripts as text: what they look like, and that nft takes them.

use policy::{AddressSet, Plan};
use portcullis_kernel::datapath::Queues;
use portcullis_kernel::nft::{Context, HandUp, LOG_GROUP, compile};

use crate::plans;

pub(crate) fn script(
    plan: &Plan,
    hand_up: HandUp,
    queues: Option<Queues>,
    protected: &AddressSet,
) -> portcullis_kernel::nft::Script {
    compile(
        plan,
        &Context {
            protected,
            queues,
            hand_up,
            log_group: LOG_GROUP,
        },
    )
    .unwrap()
}

const QUEUES: Option<Queues> = Some(Queues { first: 4, count: 4 });

#[test]
fn a_server_policy_reads_well() {
    insta::assert_snapshot!(
        script(
            &plans::server(),
            HandUp::Mark,
            None,
            &plans::set(&["10.0.0.1/32", "fd00::1/128"])
        )
        .text
    );
}

#[test]
fn an_empty_policy_is_only_the_frame() {
    insta::assert_snapshot!(
        script(&Plan::default(), HandUp::Mark, None, &AddressSet::default()).text
    );
}

#[test]
fn content_rules_by_mark_and_by_queue() {
    let none = AddressSet::default();
    insta::assert_snapshot!(
        "content_by_mark",
        script(&plans::content_rules(), HandUp::Mark, QUEUES, &none).text
    );
    let queue = script(&plans::content_rules(), HandUp::Queue, QUEUES, &none).text;
    assert!(
        queue.contains("\t\tqueue flags bypass,fanout num 4-7\n"),
        "{queue}"
    );
    let mut closed = plans::content_rules();
    closed.on_failure = policy::OnFailure::Closed;
    let one = Some(Queues { first: 9, count: 1 });
    let queue = script(&closed, HandUp::Queue, one, &none).text;
    assert!(queue.contains("\t\tqueue num 9\n"), "{queue}");
}
