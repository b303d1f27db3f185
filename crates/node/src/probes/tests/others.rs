//! Probes by UDP, DNS, ICMP echo, SMTP and by a program.

use tokio::net::UdpSocket;

use super::*;

/// One try at a server that answers a datagram with what this makes of it, if anything.
async fn by_udp(check: &str, answer: fn(&[u8]) -> Option<Vec<u8>>) -> Outcome {
    let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let target = target(server.local_addr().unwrap(), check);
    let serve = async {
        let mut datagram = [0; 2_048];
        loop {
            let (length, from) = server.recv_from(&mut datagram).await.unwrap();
            if let Some(answer) = answer(&datagram[..length]) {
                server.send_to(&answer, from).await.unwrap();
            }
        }
    };
    tokio::select! {
        outcome = tried(&target) => outcome,
        () = serve => unreachable!("it goes on"),
    }
}

#[tokio::test]
async fn a_datagram_is_answered_as_the_check_says() {
    let echo = |datagram: &[u8]| Some(datagram.to_vec());
    let silent = |_: &[u8]| None;
    let same = "type = \"udp\", payload = \"ab 12\", reply = \"abx2\", reply_min = 2";
    assert_eq!(by_udp(same, echo).await, Outcome::Passed);
    let other = "type = \"udp\", payload = \"ab 12\", reply = \"ab13\"";
    assert_eq!(by_udp(other, echo).await, failed("byte 1 of the reply is another"));
    let long = "type = \"udp\", payload = \"ab 12\", reply = true, reply_max = 1";
    assert_eq!(by_udp(long, echo).await, failed("the reply has 2 bytes, not 0 to 1"));
    let none = "type = \"udp\", reply = true, timeout = \"50ms\"";
    assert_eq!(by_udp(none, silent).await, failed("no reply within 50ms"));
    let any = "type = \"udp\", timeout = \"50ms\"";
    assert_eq!(by_udp(any, silent).await, Outcome::Passed);
    // Nobody listens: the kernel says so by ICMP.
    let gone = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let refused = failed("connection refused: nothing listens");
    assert_eq!(tried(&target(gone, "type = \"udp\"")).await, refused);
}

#[tokio::test]
async fn a_dns_server_answers_the_query_and_its_code_counts() {
    // The query as it came, as an answer with this code.
    fn answered(query: &[u8], code: u8) -> Option<Vec<u8>> {
        let mut answer = query.to_vec();
        (answer[2], answer[3]) = (0x81, 0x80 | code);
        Some(answer)
    }
    let check = "type = \"dns\", name = \"www.example.com\", record = \"A\", timeout = \"50ms\"";
    assert_eq!(by_udp(check, |query| answered(query, 0)).await, Outcome::Passed);
    let servfail = failed("it answers SERVFAIL, not NOERROR");
    assert_eq!(by_udp(check, |query| answered(query, 2)).await, servfail);
    let another = |query: &[u8]| answered(query, 0).map(|a| [&[!a[0]], &a[1..]].concat());
    assert_eq!(by_udp(check, another).await, failed("no answer within 50ms"));
    let nothing = |query: &[u8]| Some(query[..2].to_vec());
    assert_eq!(by_udp(check, nothing).await, failed("no answer within 50ms"));
}

#[tokio::test]
async fn an_echo_is_answered_or_the_director_may_not_ask() {
    let here = SocketAddr::from(([127, 0, 0, 1], 0));
    match tried(&target(here, "type = \"ping\", source = \"127.0.0.1\"")).await {
        Outcome::Passed => {}
        // Without the right to an ICMP socket nothing is known of the real server.
        Outcome::Untried(reason) => assert!(reason.contains("ermi"), "{reason}"),
        other => panic!("{other:?}"),
    }
}

/// One try at a server that says this, and after each line that it gets the next.
async fn by_smtp(lines: &[&str]) -> (Outcome, String) {
    let (listener, address) = listener().await;
    let target = target(address, "type = \"smtp\", helo = \"lb.example\", timeout = \"200ms\"");
    let serve = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut heard = Vec::new();
        for line in lines {
            stream.write_all(line.as_bytes()).await.unwrap();
            while let Ok(byte) = stream.read_u8().await {
                heard.push(byte);
                if byte == b'\n' {
                    break;
                }
            }
        }
        String::from_utf8(heard).unwrap()
    };
    tokio::join!(tried(&target), serve)
}

#[tokio::test]
async fn an_smtp_server_greets_and_takes_a_helo() {
    let (outcome, heard) = by_smtp(&["220-mail\r\n220 ready\r\n", "250 hello\r\n"]).await;
    assert_eq!(outcome, Outcome::Passed);
    assert_eq!(heard, "HELO lb.example\r\nQUIT\r\n");
    let (outcome, _) = by_smtp(&["554 no service\r\n"]).await;
    assert_eq!(outcome, failed("its greeting is not 220: \"554 no service\""));
    let (outcome, _) = by_smtp(&["220 ready\r\n", "2500 what\r\n"]).await;
    assert_eq!(outcome, failed("its reply to HELO is not 250: \"2500 what\""));
    let (outcome, _) = by_smtp(&["220 rea"]).await;
    assert_eq!(outcome, failed("it did not say all within 200ms"));
    let endless = "220-".to_owned() + &"x".repeat(600);
    let Outcome::Failed(reason) = by_smtp(&[&endless]).await.0 else { panic!("it passed") };
    assert!(reason.starts_with("its greeting does not end"), "{reason}");
}

/// One try by a shell's script, as this process's own user.
async fn by_exec(script: &str, dynamic: bool) -> Outcome {
    let users = std::fs::read_to_string("/etc/passwd").unwrap();
    let uid = rustix::process::getuid().as_raw().to_string();
    let mine = |line: &&str| line.split(':').nth(2) == Some(uid.as_str());
    let me = users.lines().find(mine).unwrap().split(':').next().unwrap();
    let check = format!(
        "type = \"exec\", command = [\"/bin/sh\", \"-c\", {script:?}], user = \"{me}\", \
         dynamic = {dynamic}, timeout = \"5s\""
    );
    tried(&target(([192, 0, 2, 16], 80).into(), &check)).await
}

#[tokio::test]
async fn a_program_says_whether_and_with_dynamic_with_which_weight() {
    let knows = "test $QUORATE_ADDRESS:$QUORATE_PORT = 192.0.2.16:80";
    assert_eq!(by_exec(knows, false).await, Outcome::Passed);
    assert_eq!(by_exec("exit 12", true).await, Outcome::Weighed(10));
    assert_eq!(by_exec("exit 12", false).await, failed("/bin/sh ended with 12"));
    assert_eq!(by_exec("exit 1", true).await, failed("/bin/sh ended with 1"));
    assert_eq!(by_exec("kill -9 $$", true).await, failed("signal 9 ended /bin/sh"));
    let missing = "type = \"exec\", command = [\"/no/such/program\"]";
    let missing = tried(&target(([192, 0, 2, 16], 80).into(), missing)).await;
    assert!(
        matches!(&missing, Outcome::Untried(reason) if reason.contains("/no/such")),
        "{missing:?}"
    );
}

#[tokio::test]
async fn a_file_says_whether_and_with_dynamic_with_which_weight() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let shown = path.to_str().unwrap();
    let of = |dynamic: bool| {
        let check = format!("type = \"file\", path = {shown:?}, dynamic = {dynamic}");
        target(([192, 0, 2, 16], 80).into(), &check)
    };
    let Outcome::Failed(reason) = tried(&of(false)).await else { panic!("there is none") };
    assert!(reason.starts_with(&format!("{shown} can't be read: No such file")), "{reason}");
    for (said, verdict, weight) in [
        ("0\n", Outcome::Passed, Outcome::Weighed(0)),
        ("30", failed(&format!("{shown} says 30, not 0")), Outcome::Weighed(30)),
        (
            "-1",
            failed(&format!("{shown} says -1, not 0")),
            failed(&format!("{shown} says -1, below 0")),
        ),
        (
            "up",
            failed(&format!("{shown} says \"up\", which is no number")),
            failed(&format!("{shown} says \"up\", which is no number")),
        ),
    ] {
        std::fs::write(&path, said).unwrap();
        assert_eq!(tried(&of(false)).await, verdict);
        assert_eq!(tried(&of(true)).await, weight);
    }
}

#[tokio::test]
async fn a_file_is_read_again_with_each_probe() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weight");
    std::fs::write(&path, "5").unwrap();
    let keys = "dynamic = true, interval = \"50ms\", retry = 0";
    let check = format!("type = \"file\", path = {:?}, {keys}", path.to_str().unwrap());
    let (mut probes, mut verdicts) = probes();
    probes.aim(&[target(([192, 0, 2, 16], 80).into(), &check)].into());
    let mut next = async || match verdicts.recv().await {
        Some(Event::Verdict(_, verdict)) => verdict,
        other => panic!("{other:?}"),
    };
    assert_eq!(next().await, Verdict::Weighs(5));
    // As whoever changes it should: in one step.
    let replace = |text: &str| {
        let new = folder.path().join("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, &path).unwrap();
    };
    replace("9");
    assert_eq!(next().await, Verdict::Weighs(9));
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(next().await, Verdict::Down(_)));
    replace("1");
    assert_eq!(next().await, Verdict::Weighs(1));
}

#[tokio::test]
async fn a_time_out_of_a_director_that_stands_still_again_and_again_says_nothing_of_the_real_server()
 {
    let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addr().unwrap();
    // As a stopped or starved daemon: between any two looks at what came, no other task runs.
    let still = async || {
        loop {
            std::thread::sleep(Duration::from_millis(200));
            tokio::task::yield_now().await;
        }
    };
    for check in ["type = \"udp\", reply = true", "type = \"ping\"", "type = \"http\""] {
        // Nobody answers ICMP for a network without hosts, nor takes connections to it.
        let to = if check.contains("udp") { address } else { "192.0.2.77:80".parse().unwrap() };
        let target = target(to, &format!("{check}, timeout = \"50ms\""));
        let outcome = tokio::select! {
            outcome = tried(&target) => outcome,
            () = still() => unreachable!("it goes on"),
        };
        let Outcome::Untried(reason) = &outcome else { panic!("{check}: {outcome:?}") };
        assert!(reason.contains("ms late to see that its time was over"), "{check}: {reason}");
    }
}
