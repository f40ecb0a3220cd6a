/* Two honest parties, a wire that loses what is under way, disks that crash or go back. Spec chapter 15.
 *
 * One `d_step` is one step of the channel machine: its input, its new state, its commit, its messages. With -DCRASH
 * the commit is a step of its own, so that a crash falls between. Amounts are 1, so a total is a count; a bit for each
 * payment stands for its bytes, so two histories of one length differ. `own` is what I have paid, `peer` what the peer
 * has paid. Names are those of src/channelpay/channel.
 *
 * Features:  -DCRASH  -DROLLBACK  -DCOOPERATIVE  -DALONE  -DONEWAY  (scripts/model lists the combinations that it runs)
 * Mutations: -DM_...  each breaks one rule and must be found. Limits: -DL_...  what the protocol does not promise.
 */

#ifndef N0
#define N0 2                    /* most payments of party 0, of party 1 */
#endif
#ifndef N1
#define N1 1
#endif
#ifndef D0
#define D0 1                    /* deposits */
#endif
#ifndef D1
#define D1 1
#endif
#ifndef TICKS
#define TICKS 0                 /* how far the ledger's clock goes */
#endif
#define Q     7                 /* messages that fit on the wire */
#define ROOM  3                 /* new payments wait while so many are under way */

/* --- Halves: count in the low two bits, one bit of content for each payment above them ------------------------- */

#define NONE        255
#define CNT(x)      ((x) & 3)
#define UPTO(x, k)  ((k) | ((((x) >> 2) & ((1 << (k)) - 1)) << 2))
#define NEXT(x, v)  ((CNT(x) + 1) | (((x) >> 2) << 2) | ((v) << (2 + CNT(x))))
#define MAXN(x, y)  (CNT(x) >= CNT(y) -> (x) : (y))
#define SAME(x, y)  ((CNT(x) <= CNT(y)) -> UPTO(y, CNT(x)) == (x) : UPTO(x, CNT(y)) == (y))

mtype = { PAY, ACK, REESTABLISH, RECALL, RECORDS, SHUTDOWN, FINAL };

#define OPEN     0
#define SHUT     1
#define FINALED  2
#define CLOSING  3
#define SETTLED  4

typedef Store {
    byte own; byte peer;        /* newest halves */
    byte ho; byte hp;           /* held: newest STATE the peer signed whose records are here */
    byte eo; byte ep;           /* evidence: newer, without records; ep == NONE: empty */
    byte ok; byte pk;           /* records known up to here only; NONE: all */
    byte una;                   /* bit n: batch n is not acknowledged */
    byte phase;
    byte fin; byte fexp;        /* signatures on FINAL (bit 0: party 0's), expiry */
    bit  force;                 /* this side decided to close alone */
    byte jin;                   /* journal of what came in: complete up to here */
    bit  gap                    /* `records unavailable` is in the journal */
};
Store M[2];                     /* what the process works with */
#if defined(CRASH) || defined(ROLLBACK)
Store S[2];                     /* CRASH: the disk. ROLLBACK: a backup of it */
#endif

chan wire[2] = [Q] of { mtype, byte, byte, byte, byte, byte };      /* wire[p]: on its way to p */
#ifdef CRASH
chan outbox[2] = [Q] of { mtype, byte, byte, byte, byte, byte };    /* of p, until the commit */
bit dirty[2];
#endif

bit conn, calm, rejoined;
bit live[2], ackdue[2], shutsent[2], finalsent[2];
bit noqueue[2];                 /* the queue is drained: SHUTDOWN was sent once, or the process died */
byte peerlast[2];
byte now;
bit since[2];                   /* REESTABLISH was heard since this process started (X-11) */
bit other[2];                   /* after a rollback the application pays something else */

/* The ledger. */
byte lstatus, L[2], W[2];       /* status, joined halves, withdrawn */

/* Ghosts: what must hold is said about these; no party reads them. */
byte gown[2], gpeer[2];         /* greatest halves that p signed and that are not lost with a disk */
byte gmost[2];                  /* all that p ever signed away */
byte gheld[2];                  /* greatest half of the peer that p ever had in its journal */
byte served[2];                 /* journal that p's application has read */
byte gfo[2], gfp[2], gfexp[2];  /* halves under p's FINAL, NONE: not signed */
byte snapped, rollbacks;
bit unheard[2];                 /* rolled back, and not reestablished since */

#define D(p)          ((p) == 0 -> D0 : D1)
#define LIMIT(p)      ((p) == 0 -> N0 : N1)
/* balance_p >= 0 on a pair (own, peer) of p */
#define FUNDED(p, o, r)   (D(p) + CNT(r) >= W[p] + CNT(o))
#ifdef ONEWAY
#define PAYEE_ROLLED_BACK(p)  ((p) == 1 && rollbacks > 0)
#else
#define PAYEE_ROLLED_BACK(p)  false
#endif
#define RESOLVED(p)   (M[p].ok == NONE && M[p].pk == NONE)
#define BOUNDARY(p, n)    ((n) == CNT(M[p].ho) || (n) == CNT(M[p].own) || ((M[p].una >> (n)) & 1))
#define GREATER(a, b, c, d)   (CNT(a) > CNT(c) || (CNT(a) == CNT(c) && CNT(b) > CNT(d)))
#define POT           (D0 + D1 - W[0] - W[1])

hidden mtype t;
hidden byte a, b, c, d, e, i, no, np, showing, x, y;

/* The invariants, by their numbers in chapter 15. */
#define MUST(n, cond)  if :: (cond) -> skip :: else -> printf("broken: I%d\n", n); assert(false) fi
/* Honest parties never refuse each other: `why` is only for the reader of a trail. */
#define refuse(why)  printf("refused: %d\n", why); MUST(6, false)

#define copy(X, Y, p) \
    X[p].own = Y[p].own; X[p].peer = Y[p].peer; X[p].ho = Y[p].ho; X[p].hp = Y[p].hp; \
    X[p].eo = Y[p].eo; X[p].ep = Y[p].ep; X[p].ok = Y[p].ok; X[p].pk = Y[p].pk; X[p].una = Y[p].una; \
    X[p].phase = Y[p].phase; X[p].fin = Y[p].fin; X[p].fexp = Y[p].fexp; X[p].force = Y[p].force; \
    X[p].jin = Y[p].jin; X[p].gap = Y[p].gap

/* --- Signing ---------------------------------------------------------------------------------------------------- */

/* p signs STATE of its pair (o, r). A resent batch may show an older half of p itself, nothing else may. */
inline sign(p, zo, zr, resent) {
    MUST(1, SAME(zo, gown[p]) && SAME(zr, gpeer[p]));           /* one history */
    MUST(1, CNT(zr) >= CNT(gpeer[p]) && (resent || CNT(zo) >= CNT(gown[p])));
    /* No balance below zero, but for the payee that claimed and was rolled back, until the resend is over. */
    MUST(2, FUNDED(p, zo, zr) || PAYEE_ROLLED_BACK(p));
    MUST(2, resent || FUNDED(1 - p, zr, zo) || PAYEE_ROLLED_BACK(1 - p));
    MUST(5, gfo[p] == NONE || gfexp[p] < now || (!resent && zo == gfo[p] && zr == gfp[p]));
    gown[p] = MAXN(zo, gown[p]);
    gpeer[p] = MAXN(zr, gpeer[p]);
    gmost[p] = (CNT(zo) > gmost[p] -> CNT(zo) : gmost[p])
}

#ifdef CRASH
#define SEND(p, T, A, B, C, E, F)  outbox[p]!T, A, B, C, E, F
#define FREE(p)     (len(wire[1 - p]) + len(outbox[p]) < ROOM)
#define CHANGED(p)  dirty[p] = 1
#else
#define SEND(p, T, A, B, C, E, F)  wire[1 - p]!T, A, B, C, E, F
#define FREE(p)     (len(wire[1 - p]) < ROOM)
#define CHANGED(p)  serve(p, M)
#endif

/* The application reads the journal: what it has read never changes. */
#define serve(p, X) \
    MUST(4, SAME(X[p].jin, served[p])); \
    served[p] = MAXN(X[p].jin, served[p])

inline journal(p, half) {       /* exactly once: the next one, of the payer's own making */
    MUST(4, CNT(half) == CNT(M[p].jin) + 1 && SAME(half, M[p].jin));
    M[p].jin = half;
    gheld[p] = MAXN(half, gheld[p])
}

/* --- Paying ----------------------------------------------------------------------------------------------------- */

#ifdef M_FLUSH_UNHEARD
#define MAY_SIGN(p)  (conn)
#else
#define MAY_SIGN(p)  (conn && live[p])
#endif
#ifdef M_PAY_AFTER_FINAL
#define PAYING(p)   (M[p].phase <= FINALED)
#else
#define PAYING(p)   (M[p].phase == OPEN || (M[p].phase == SHUT && !noqueue[p]))
#endif
#ifdef M_UNRESOLVED_TAKES
#define KNOWN(p)    true
#else
#define KNOWN(p)    RESOLVED(p)
#endif

inline pay(p) {
    printf("%d pays\n", p);
    x = NEXT(M[p].own, other[p]);
    M[p].own = x;
    M[p].una = M[p].una | (1 << CNT(x));
    y = M[p].peer;
#ifdef M_OLDER_HALF
    y = M[p].hp;
    if :: CNT(y) > 0 -> y = UPTO(y, CNT(y) - 1) :: else fi;
#endif
    sign(p, x, y, 0);
    SEND(p, PAY, x, y, 0, 0, 0);
    ackdue[p] = 0;
    CHANGED(p)
}

inline acknowledge(p) {
    printf("%d acknowledges (%d, %d)\n", p, M[p].peer, M[p].own);
    ackdue[p] = 0;
    sign(p, M[p].own, M[p].peer, 0);
#if defined(CRASH) && defined(M_ACK_BEFORE_COMMIT)
    released(p, ACK, M[p].peer, M[p].own);
    wire[1 - p]!ACK, M[p].peer, M[p].own, 0, 0, 0
#else
    SEND(p, ACK, M[p].peer, M[p].own, 0, 0, 0);
    CHANGED(p)
#endif
}

/* The newest STATE of the peer whose records are here; what it acknowledges is paid. */
inline hold(p, zo, zr) {
    M[p].ho = zo; M[p].hp = zr;
    if :: M[p].ep != NONE && CNT(M[p].ep) <= CNT(zr) -> M[p].ep = NONE; M[p].eo = 0 :: else fi;
    M[p].una = M[p].una & ~((2 << CNT(zo)) - 1)
}

/* Sets ok: the half of mine in an incoming message is one that I sent and no older than one accepted before. */
inline judge_boundary(p, zo) {
    if
    :: CNT(zo) < CNT(M[p].ho) -> refuse(1)           /* REGRESSION */
    :: else -> skip
    fi;
    if
    :: !BOUNDARY(p, CNT(zo)) -> refuse(2)            /* UNKNOWN_BOUNDARY */
    :: else -> skip
    fi;
    if
    :: !SAME(zo, M[p].own) -> refuse(3)              /* BAD_SIGNATURE: signed over another history */
    :: else -> skip
    fi
}

inline receive_pay(p) {         /* a: the payer's half after the batch, b: mine, as signed */
    if
    :: M[p].phase >= CLOSING -> skip
#ifndef M_PAY_AFTER_FINAL
    :: M[p].phase == FINALED && rollbacks == 0 -> refuse(4)     /* ILLEGAL_NOW */
    :: M[p].phase == FINALED && rollbacks > 0 ->    /* the peer forgot SHUTDOWN: refused until the time-out */
        M[p].phase = CLOSING; M[p].force = 1
#endif
    :: M[p].phase < CLOSING && CNT(a) <= CNT(M[p].peer) ->
        if :: !SAME(a, M[p].peer) -> refuse(5) :: else fi;      /* OTHER_BYTES */
        ackdue[p] = 1
    :: else ->
        if :: CNT(a) != CNT(M[p].peer) + 1 -> refuse(6) :: else fi;     /* GAP */
        if :: !SAME(a, M[p].peer) -> refuse(7) :: else fi;      /* BAD_SIGNATURE */
        if :: peerlast[p] != NONE -> refuse(8) :: else fi;      /* a payment after SHUTDOWN */
        judge_boundary(p, b);
#ifdef M_SHOWN_IS_ACCEPTED
        if :: M[p].ep != NONE && CNT(a) < CNT(M[p].ep) -> refuse(9) :: else fi;
#endif
#ifdef M_BOTH_BALANCES
        if :: !FUNDED(p, b, a) -> refuse(10) :: else fi;
#endif
        if :: !FUNDED(1 - p, a, b) -> refuse(11) :: else fi;    /* BALANCE, on the pair as signed */
        MUST(5, gfo[p] == NONE);
        M[p].peer = a;
        journal(p, a);
        hold(p, b, a);
        ackdue[p] = 1;
        CHANGED(p)
    fi
}

inline receive_ack(p) {         /* a: my half that the sender holds, b: the sender's own */
    if
    :: M[p].phase >= CLOSING -> skip
    :: M[p].phase == FINALED -> refuse(12)
    :: else ->
        if :: b != M[p].peer -> refuse(13) :: else fi;
        judge_boundary(p, a);
        hold(p, a, M[p].peer);
        CHANGED(p)
    fi
}

/* --- Reconnecting ----------------------------------------------------------------------------------------------- */

inline send_reestablish(p) {
    if
    :: M[p].phase == SETTLED -> skip
    :: else ->
        if      /* who was rolled back shows what it remembers, and learns the rest from the answer */
        :: !unheard[p] -> sign(p, M[p].own, M[p].peer, 0)
        :: else -> skip
        fi;
        x = M[p].ho; y = M[p].hp;
        if
        :: M[p].pk != NONE && M[p].ep != NONE && M[p].ep == M[p].peer -> x = M[p].eo; y = M[p].ep
        :: else -> skip
        fi;
        SEND(p, REESTABLISH, M[p].own, M[p].peer, x, y, (M[p].fin | (M[p].fexp << 2)));
        CHANGED(p)
    fi
}

inline check_same(p, zo, zr, newest_o, newest_r) {
    if
    :: (CNT(zo) == CNT(newest_o) && zo != newest_o) || (CNT(zr) == CNT(newest_r) && zr != newest_r) -> refuse(14)
    :: CNT(zo) != CNT(newest_o) && BOUNDARY(p, CNT(zo)) && CNT(zo) <= CNT(M[p].own) && !SAME(zo, M[p].own) -> refuse(15)
    :: CNT(zo) != CNT(newest_o) && !BOUNDARY(p, CNT(zo)) && CNT(zo) > CNT(M[p].ho) && CNT(zo) < CNT(M[p].own) &&
        M[p].ok == NONE -> refuse(16)
    :: else -> skip
    fi
}

inline keep(p, zo, zr) {
    if
#ifdef M_EVIDENCE_AS_HELD
    :: GREATER(zr, zo, M[p].hp, M[p].ho) && BOUNDARY(p, CNT(zo)) -> M[p].peer = MAXN(zr, M[p].peer); hold(p, zo, zr)
#endif
    :: CNT(zr) == CNT(M[p].peer) && M[p].pk == NONE && !GREATER(M[p].hp, M[p].ho, zr, zo) && BOUNDARY(p, CNT(zo)) ->
        hold(p, zo, zr)
    :: else ->
        if
        :: CNT(zr) > 0 && GREATER(zr, zo, M[p].hp, M[p].ho) && (M[p].ep == NONE || GREATER(zr, zo, M[p].ep, M[p].eo)) ->
            M[p].eo = zo; M[p].ep = zr
        :: else -> skip
        fi
    fi
}

/* a, b: the sender's STATE (its half, mine); c, d: the newest with my signature that it holds (its half, mine). */
inline receive_reestablish(p) {
    no = M[p].own; np = M[p].peer;
    check_same(p, d, c, M[p].own, M[p].peer);
    if :: CNT(a) < CNT(c) -> refuse(17) :: else fi;
    no = MAXN(M[p].own, d);
    np = MAXN(M[p].peer, c);
#ifdef M_NO_ADOPTION
    no = M[p].own; np = M[p].peer;
#endif
#ifdef M_ADOPT_ONE_HALF
    np = M[p].peer;
#endif
    if :: CNT(b) > CNT(no) -> refuse(18) :: else fi;
    check_same(p, b, a, no, np);
    if
    :: CNT(no) > CNT(M[p].own) ->
        if :: M[p].ok == NONE -> M[p].ok = M[p].own :: else fi;
        M[p].own = no
    :: else -> skip
    fi;
    if
    :: CNT(np) > CNT(M[p].peer) ->
        if :: M[p].pk == NONE -> M[p].pk = M[p].peer :: else fi;
        M[p].peer = np
    :: else -> skip
    fi;
    keep(p, b, a);
    showing = (CNT(M[p].ho) > CNT(b) -> CNT(M[p].ho) : CNT(b));
#ifndef M_FINAL_FORGOTTEN
    if      /* a FINAL that I signed and forgot binds me again */
    :: ((e >> p) & 1) && !M[p].fin && now <= (e >> 2) && M[p].phase < SETTLED ->
        M[p].fin = e & 3; M[p].fexp = e >> 2;
        if :: M[p].phase < FINALED -> M[p].phase = FINALED :: else fi
    :: else -> skip
    fi;
#endif
    live[p] = 1; since[p] = 1; unheard[p] = 0;
    resend(p);
    if :: M[p].ok != NONE -> SEND(p, RECALL, p, CNT(M[p].ok) + 1, 0, 0, 0) :: else fi;
    if :: M[p].pk != NONE -> SEND(p, RECALL, 1 - p, CNT(M[p].pk) + 1, 0, 0, 0) :: else fi;
    CHANGED(p)
}

inline resend(p) {
    if
    :: M[p].phase <= SHUT ->
        i = showing + 1;
        do
        :: i > CNT(M[p].own) -> break
        :: i <= CNT(M[p].own) && !((M[p].una >> i) & 1) -> i++
        :: i <= CNT(M[p].own) && ((M[p].una >> i) & 1) ->
            x = UPTO(M[p].own, i);
#ifdef M_RESEND_OTHER
            x = x ^ (1 << (1 + i));
#endif
            sign(p, x, M[p].peer, 1);
            SEND(p, PAY, x, M[p].peer, 0, 0, 0);
            i++
        od
    :: else -> skip
    fi
}

inline receive_recall(p) {      /* a: payer, b: first payment wanted */
    if
    :: M[p].phase == SETTLED -> skip
    :: else ->
        if
        :: a == p -> x = (M[p].ok != NONE -> M[p].ok : M[p].own)
        :: else -> x = (M[p].pk != NONE -> M[p].pk : M[p].peer)
        fi;
        if :: CNT(x) < b -> x = NONE :: else fi;
        SEND(p, RECORDS, a, x, 0, 0, 0);
        CHANGED(p)
    fi
}

inline receive_records(p) {     /* a: payer, b: the half that the records lead to, NONE: none kept */
    if
    :: M[p].phase == SETTLED || (a == p && M[p].ok == NONE) || (a != p && M[p].pk == NONE) -> skip
    :: else ->
        x = (a == p -> M[p].own : M[p].peer);
        if
        :: b == NONE || CNT(b) < CNT(x) -> M[p].gap = 1
        :: else -> if :: UPTO(b, CNT(x)) != x -> refuse(19) :: else fi
        fi;
        if
        :: a == p ->
            if
            :: b != NONE && CNT(b) >= CNT(x) ->     /* batches of mine again, acknowledged or not */
                M[p].una = M[p].una | (((2 << CNT(x)) - 1) & ~((2 << CNT(M[p].ok)) - 1) & ~((2 << CNT(M[p].ho)) - 1))
            :: else -> skip
            fi;
            M[p].ok = NONE
        :: else ->
            M[p].pk = NONE; M[p].jin = x; gheld[p] = MAXN(x, gheld[p])
        fi;
        if
        :: RESOLVED(p) && M[p].ep != NONE && M[p].ep == M[p].peer && BOUNDARY(p, CNT(M[p].eo)) ->
            x = M[p].eo; y = M[p].ep; hold(p, x, y)
        :: else -> skip
        fi;
        CHANGED(p)
    fi
}

/* --- Closing ---------------------------------------------------------------------------------------------------- */

inline send_shutdown(p) {
    printf("%d sends SHUTDOWN\n", p);
    shutsent[p] = 1; noqueue[p] = 1;
    SEND(p, SHUTDOWN, CNT(M[p].own), 0, 0, 0, 0);
    CHANGED(p)
}

inline receive_shutdown(p) {
    if
    :: M[p].phase >= CLOSING -> skip
    :: else ->
        if :: a != CNT(M[p].peer) -> refuse(20) :: else fi;
        peerlast[p] = a;
        if :: M[p].phase == OPEN -> M[p].phase = SHUT :: else fi;
        CHANGED(p)
    fi
}

#ifdef M_FINAL_NOT_DRAINED
#define DRAINED(p)  (shutsent[p] && RESOLVED(p))
#else
#define DRAINED(p)  (shutsent[p] && peerlast[p] == CNT(M[p].peer) && M[p].ho == M[p].own && !ackdue[p] && RESOLVED(p))
#endif
#define USABLE(p)   (M[p].fin == 3 && now <= M[p].fexp)

inline sign_final(p, expiry) {
    MUST(5, gfo[p] == NONE || gfexp[p] < now || (gfo[p] == M[p].own && gfp[p] == M[p].peer));
    MUST(1, CNT(M[p].own) >= CNT(gown[p]) && CNT(M[p].peer) >= CNT(gpeer[p]));
    gfo[p] = M[p].own; gfp[p] = M[p].peer; gfexp[p] = expiry;
    M[p].fexp = expiry;
    M[p].phase = FINALED
}

inline propose(p) {             /* p == 0 */
    printf("%d proposes FINAL\n", p);
    if
    :: M[p].fin == 0 || M[p].fexp <= now -> sign_final(p, now + 1); M[p].fin = 1
    :: else -> skip
    fi;
    finalsent[p] = 1;
    SEND(p, FINAL, M[p].own, M[p].peer, M[p].fexp, 0, 0);
    CHANGED(p)
}

inline receive_final(p) {       /* a, b: the sender's half and mine, c: expiry */
    if
    :: M[p].phase >= CLOSING -> skip
    :: else ->
        if :: a != M[p].peer || b != M[p].own -> refuse(21) :: else fi;     /* FINAL_MISMATCH */
        if
        :: p == 0 && M[p].fin && M[p].fexp == c -> M[p].fin = 3
        :: p == 1 && !DRAINED(p) -> refuse(22)
        :: p == 1 && DRAINED(p) && now < c && c <= now + 2 ->
            if
            :: M[p].fin == 0 || M[p].fexp != c -> sign_final(p, c); M[p].fin = 3
            :: else -> skip
            fi;
            SEND(p, FINAL, M[p].own, M[p].peer, c, 0, 0)
        :: else -> skip             /* the answer to an older one, or its time has passed: declined */
        fi;
        CHANGED(p)
    fi
}

/* --- The ledger ------------------------------------------------------------------------------------------------- */

inline join(zo, p, zr) {          /* (zo, zr) as p's own and peer half */
    L[p] = MAXN(zo, L[p]);
    L[1 - p] = MAXN(zr, L[1 - p])
}

inline share1() {               /* x = clamp(D1 - W1 - T1 + T0, 0, pot) */
    x = 0;
    if
    :: D1 + CNT(L[0]) > W[1] + CNT(L[1]) -> x = D1 + CNT(L[0]) - W[1] - CNT(L[1])
    :: else -> skip
    fi;
    if :: x > POT -> x = POT :: else fi
}

/* An honest party has D - W - what it signed away + what it holds, claims and withdrawals counted. */
/* `known`: what p had is counted, though its disk went back and it has not heard its peer since. */
inline check_payout(p, out, known) {
    y = (unheard[p] && !known -> M[p].hp : gheld[p]);
    MUST(8, out + W[p] + gmost[p] >= D(p) + CNT(y))
}

inline pay_out(by1) {          /* by1: party 1 of a one-way channel closed: at once */
    printf("--- the ledger pays out (%d, %d)\n", L[0], L[1]);
    share1();
    MUST(9, x + W[0] + W[1] <= D0 + D1);
    check_payout(1, x, by1);
    check_payout(0, POT - x, 0);
    lstatus = SETTLED
}

inline submit(p) {              /* the states that the peer signed, countersigned */
    printf("%d submits (%d, %d) and evidence (%d, %d)\n", p, M[p].ho, M[p].hp, M[p].eo, M[p].ep);
    join(M[p].ho, p, M[p].hp);
    if :: M[p].ep != NONE -> join(M[p].eo, p, M[p].ep) :: else fi
}

#define NEWER(o, q)  (CNT(o) > CNT(L[q]))
#define NEWS(p)     (NEWER(M[p].ho, p) || NEWER(M[p].hp, 1 - p) || \
                     (M[p].ep != NONE && (NEWER(M[p].eo, p) || NEWER(M[p].ep, 1 - p))))
#ifdef M_CLAIM_UNHEARD
#define MAY_CLAIM(p)  true
#else
#define MAY_CLAIM(p)  (since[p])
#endif

/* --- The wire and the disk -------------------------------------------------------------------------------------- */

inline forget(p) {
    do :: len(wire[p]) > 0 -> wire[p]?t, a, b, c, d, e :: len(wire[p]) == 0 -> break od;
#ifdef CRASH
    do :: len(outbox[p]) > 0 -> outbox[p]?t, a, b, c, d, e :: len(outbox[p]) == 0 -> break od;
#endif
    live[p] = 0; ackdue[p] = 0; shutsent[p] = 0; finalsent[p] = 0; peerlast[p] = NONE
}

inline cut() { printf("--- cut\n"); conn = 0; forget(0); forget(1) }

inline connect() {
    printf("--- connect\n");
    conn = 1;
    send_reestablish(0);
    send_reestablish(1)
}

#ifdef CRASH
/* Durable before released: what a message asserts is on the sender's disk. */
inline released(p, T, A, B) {
    if
    :: T == PAY || T == REESTABLISH -> MUST(3, CNT(S[p].own) >= CNT(A) && CNT(S[p].jin) >= CNT(B))
    :: T == ACK -> MUST(3, CNT(S[p].jin) >= CNT(A) && CNT(S[p].own) >= CNT(B))
    :: else -> skip
    fi
}

inline commit(p) {
    printf("%d commits\n", p);
    copy(S, M, p);
    dirty[p] = 0;
    serve(p, S);
    do
    :: len(outbox[p]) > 0 ->
        outbox[p]?t, a, b, c, d, e;
        released(p, t, a, b);
        wire[1 - p]!t, a, b, c, d, e
    :: len(outbox[p]) == 0 -> break
    od;
    skip
}

inline crash(p) {
    printf("%d crashes\n", p);
    cut();
    copy(M, S, p);
    gown[p] = M[p].own; gpeer[p] = M[p].peer;       /* what was not released was not signed */
    gheld[p] = M[p].jin; dirty[p] = 0
}
#endif

#ifdef ROLLBACK
inline roll_back(p) {
    printf("%d rolls back\n", p);
    cut();
    copy(M, S, p);
    rollbacks++;
    snapped = 2;                /* the backup has served */
    copy(S, ZERO, p);
    since[p] = 0; noqueue[p] = 1; unheard[p] = 1; other[p] = 1;
    gown[p] = M[1 - p].hp; gpeer[p] = M[1 - p].ho;      /* what the peer does not hold with records does not bind */
#ifdef L_EVIDENCE_BINDS
    if :: M[1 - p].ep != NONE -> gown[p] = M[1 - p].ep; gpeer[p] = M[1 - p].eo :: else fi;
#endif
    if :: !(((M[1 - p].fin | M[p].fin) >> p) & 1) -> gfo[p] = NONE; gfp[p] = NONE; gfexp[p] = 0 :: else fi
}
Store ZERO[2];
#endif

/* --- The parties ------------------------------------------------------------------------------------------------ */

/* While records are recalled, what must keep its order waits (spec C-23). */
#ifdef M_UNRESOLVED_TAKES
#define PASSES(p)   len(wire[p]) > 0
#else
#define PASSES(p)   (len(wire[p]) > 0 && \
                     (RESOLVED(p) || wire[p]?[REESTABLISH] || wire[p]?[RECALL] || wire[p]?[RECORDS]))
#endif
#define OVERTAKES(p, T)  (!PASSES(p) && wire[p]??[T])

inline take(p) {
    if
    :: t == PAY -> printf("%d takes PAY (%d, %d, %d, %d, %d)\n", p, a, b, c, d, e); receive_pay(p)
    :: t == ACK -> printf("%d takes ACK (%d, %d, %d, %d, %d)\n", p, a, b, c, d, e); receive_ack(p)
    :: t == REESTABLISH -> printf("%d takes REESTABLISH (%d, %d, %d, %d, %d)\n", p, a, b, c, d, e);
        receive_reestablish(p)
    :: t == RECALL -> printf("%d takes RECALL (%d, %d, %d, %d, %d)\n", p, a, b, c, d, e); receive_recall(p)
    :: t == RECORDS -> printf("%d takes RECORDS (%d, %d, %d, %d, %d)\n", p, a, b, c, d, e); receive_records(p)
    :: t == SHUTDOWN -> printf("%d takes SHUTDOWN (%d, %d, %d, %d, %d)\n", p, a, b, c, d, e); receive_shutdown(p)
    :: t == FINAL -> printf("%d takes FINAL (%d, %d, %d, %d, %d)\n", p, a, b, c, d, e); receive_final(p)
    fi
}

proctype party(bit p) {
end:
    do
    :: d_step { PASSES(p) -> wire[p]?t, a, b, c, d, e; take(p); skip }
    :: d_step { OVERTAKES(p, RECORDS) ->
                wire[p]??RECORDS, a, b, c, d, e; printf("%d takes RECORDS early\n", p);
                receive_records(p) }
    :: d_step { OVERTAKES(p, RECALL) ->
                wire[p]??RECALL, a, b, c, d, e; printf("%d takes RECALL early\n", p); receive_recall(p) }
    :: d_step { !calm && MAY_SIGN(p) && PAYING(p) && KNOWN(p) && FREE(p) && CNT(M[p].own) < LIMIT(p) &&
                FUNDED(p, CNT(M[p].own) + 1, M[p].peer) -> pay(p) }
    :: d_step { ackdue[p] && live[p] -> acknowledge(p) }
#ifdef CRASH
    :: d_step { dirty[p] -> commit(p) }
    :: d_step { !calm -> crash(p) }
#endif
#ifdef ROLLBACK
    :: d_step { !calm && snapped == 0 -> snapped = 1 + 2 * (p + 1); printf("%d makes a backup\n", p); copy(S, M, p) }
    :: d_step { !calm && snapped == 1 + 2 * (p + 1) -> roll_back(p) }
#endif
#ifdef COOPERATIVE
    :: d_step { !calm && M[p].phase == OPEN -> M[p].phase = SHUT }
    :: d_step { live[p] && (M[p].phase == SHUT || M[p].phase == FINALED) && !shutsent[p] && RESOLVED(p) ->
                send_shutdown(p) }
    :: d_step { p == 0 && live[p] && (M[p].phase == SHUT || M[p].phase == FINALED) && !finalsent[p] && DRAINED(p) &&
                !USABLE(p) -> propose(p) }
    :: d_step { (M[p].phase == FINALED || M[p].phase == CLOSING) && USABLE(p) && lstatus != SETTLED ->
                MUST(5, gfo[0] == gfp[1] && gfo[1] == gfp[0]);
                join(gfo[0], 0, gfo[1]);
                pay_out(0) }
#endif
#ifdef ALONE
    :: d_step { !calm && M[p].phase < CLOSING && (p == 0 || MAY_CLAIM(p)) -> M[p].phase = CLOSING; M[p].force = 1 }
    :: d_step { M[p].phase == CLOSING && M[p].force && lstatus == OPEN ->
                lstatus = CLOSING;
                submit(p);
#ifdef ONEWAY
                if :: p == 1 -> pay_out(1) :: else fi
#endif
              }
    :: d_step { M[p].phase < CLOSING && lstatus == CLOSING -> M[p].phase = CLOSING }
    :: d_step { M[p].phase == CLOSING && lstatus == CLOSING && NEWS(p) -> submit(p) }
#endif
#ifdef ONEWAY
    :: d_step { p == 1 && !calm && M[p].phase <= SHUT && RESOLVED(p) && MAY_CLAIM(p) && lstatus == OPEN &&
                CNT(M[p].hp) > CNT(L[0]) -> join(M[p].ho, p, M[p].hp); share1(); W[1] = W[1] + x }
#endif
    :: d_step { lstatus == SETTLED && M[p].phase < SETTLED ->
                M[p].phase = SETTLED;
                if :: CNT(L[1 - p]) > CNT(M[p].jin) -> M[p].gap = 1 :: else fi }
    od
}

/* Whoever has lost nothing, or has reestablished, agrees with the peer to the last payment. */
#define AGREED(p)   (M[p].own == M[1 - p].peer && M[1 - p].jin == M[p].own && M[p].ho == M[p].own && \
                     M[p].una == 0 && RESOLVED(p) && !M[p].gap && live[p])

proctype world() {
    do
    :: d_step { !calm && conn -> cut() }
    :: d_step { !conn && lstatus != SETTLED && (!calm || !rejoined) -> rejoined = calm; connect(); skip }
    :: d_step { !calm -> calm = 1; cut() }       /* from here on nothing goes wrong and nothing new begins */
#if TICKS > 0
    :: d_step { !calm && now < TICKS -> now++ }
#endif
#ifdef ALONE
    :: d_step { lstatus == CLOSING && M[0].phase == CLOSING && M[1].phase == CLOSING && !NEWS(0) && !NEWS(1) ->
                pay_out(0) }     /* the window was long enough for both to answer */
#endif
    :: timeout ->               /* rest: settled, or open and agreed */
        MUST(7, calm && (lstatus == SETTLED || (M[0].phase == OPEN && M[1].phase == OPEN && AGREED(0) && AGREED(1))));
        break
    od
}

init {
    d_step {
        i = 0;
        do
        :: i > 1 -> break
        :: else ->
            M[i].ep = NONE; M[i].ok = NONE; M[i].pk = NONE;
#ifdef CRASH
            copy(S, M, i);
#endif
            peerlast[i] = NONE; gfo[i] = NONE; gfp[i] = NONE;
            i++
        od
    }
    atomic { run party(0); run party(1); run world() }
}
