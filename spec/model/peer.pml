/* An honest party H against a peer M that signs, sends and submits whatever it can. Spec chapter 15.
 *
 * M gets every signature of H at once and for ever (`shown`), and combines them as it likes; what H would refuse is
 * left out, since a refusal changes nothing. H loses no disk here, so its commits are left out as well. H pays 1 at a
 * time; M pays 1 or 2, and its halves (n, T) need no order: it may sign two histories.
 *
 * -DH=0 or -DH=1: the honest side. Features: -DASK (H withdraws) -DWITHDRAW (M does) -DTOPUP -DTOGETHER (FINAL)
 * -DONEWAY -DOUTAGE -DNOSHOW (M shows nothing beyond what it paid).
 * Mutations: -DM_...  each breaks one rule and must be found.
 */

#ifndef H
#define H 0
#endif
#define M (1 - H)
#ifndef NH
#define NH 2                    /* most payments of H, at most 2 */
#endif
#ifndef NM
#define NM 2                    /* most payments of M, at most 2 */
#endif
#ifndef DH
#define DH 2                    /* deposits */
#endif
#ifndef DM
#define DM 2
#endif
#ifndef TICKS
#define TICKS 4
#endif
#define WINDOW 2
#define LIFE   1                /* an agreement's expiry is so far ahead */

/* M's halves: 0, or 3 (n - 1) + T with n = 1, 2 and T = 1, 2, 3. */
#define NONE      255
#define N(x)      ((x) == 0 -> 0 : ((x) + 2) / 3)
#define T(x)      ((x) == 0 -> 0 : ((x) + 2) % 3 + 1)
#define HALF(n, t)  (3 * ((n) - 1) + (t))
#define BIT(o, r) (1 << (7 * (o) + (r)))
#define MAX(x, y) ((x) >= (y) -> (x) : (y))

#define OPEN     0
#define SHUT     1
#define FINALED  2
#define CLOSING  3
#define SETTLED  4

/* What H knows, all of it durable. */
byte own, peer;                 /* what it signed away; the peer's half in its journal */
byte ho, hp;                    /* held, newest by records */
byte eo, ep = NONE;             /* evidence */
byte phase;
bit force;
bit told;                       /* the ledger was shown all this */
byte wm, wmexp;                 /* consented: M may take out wm in all */
byte wh, whexp;                 /* asked for: H may take out wh in all */
byte rD[2], rW[2];              /* newest reading of the ledger */

/* What M has: every STATE that H signed, by (own, peer) bit; H's agreements. */
int shown;
byte signedhalf;                /* M's half in the newest of them */
byte final = NONE, finalown, finalexp;          /* FINAL(finalown, final) */
byte agm, agmexp, agh, aghexp;  /* WITHDRAW for M, for H, signed by H */
bit lied;                       /* M said NO and may execute it all the same */

/* The ledger. */
byte D[2], W[2], status, now, deadline, LN[2], LT[2];
bit away;                       /* it had its one outage */

hidden byte a, b, x, y;

#define POT         (D[0] + D[1] - W[0] - W[1])
#ifdef M_HOLD_NOT_COUNTED
#define KNOWN_WM    rW[M]
#else
#define KNOWN_WM    MAX(rW[M], wm)
#endif
#ifdef M_ASK_NOT_COUNTED
#define KNOWN_WH    rW[H]
#else
#define KNOWN_WH    MAX(rW[H], wh)
#endif
#define BALANCE_H(o, r)  (rD[H] + T(r) - KNOWN_WH - (o))
#define BALANCE_M(o, r)  (rD[M] + (o) - KNOWN_WM - T(r))
/* As an all-knowing judge sees them: every agreement that may still execute counts. */
#define TRUE_WM     (agmexp >= now -> MAX(W[M], agm) : W[M])
#define TRUE_WH     (aghexp >= now -> MAX(W[H], agh) : W[H])

#ifdef M_ACCEPT_AFTER_FINAL
#define ACCEPTING   (phase <= FINALED)
#else
#define ACCEPTING   (phase <= SHUT)
#endif

/* The invariants, by their numbers in chapter 15. */
#define MUST(n, cond)  if :: (cond) -> skip :: else -> printf("broken: I%d\n", n); assert(false) fi

/* --- H signs ---------------------------------------------------------------------------------------------------- */

inline sign() {                 /* STATE(own, peer) */
    MUST(5, final == NONE || finalexp < now || (own == finalown && peer == final));
    MUST(2, lied || D[H] + T(peer) >= TRUE_WH + own);
    MUST(2, D[M] + own >= TRUE_WM + T(peer));
    MUST(1, (shown >> (7 * own + peer)) < 2 && N(peer) >= N(signedhalf));   /* the higher bit is the later STATE */
    signedhalf = peer;
    shown = shown | BIT(own, peer)
}

inline pay() { own++; sign() }

/* --- H receives ------------------------------------------------------------------------------------------------- */

inline hold(zo, zr) {
    ho = zo; hp = zr; told = 0;
    if :: ep != NONE && N(ep) <= N(zr) && T(ep) <= T(zr) -> ep = NONE; eo = 0 :: else fi
}

inline receive_pay(zo, zt) {    /* zt units more, signed with H's half zo */
    a = HALF(N(peer) + 1, T(peer) + zt);
    MUST(2, D[M] + zo >= TRUE_WM + T(a));           /* what is held is good for its money */
    peer = a;
    hold(zo, a);
    sign()                                          /* ACK */
}

#ifdef M_JUDGED_ON_NEWEST
#define GOOD(zo, zt)  (BALANCE_M(own, peer) >= zt)
#else
#define GOOD(zo, zt)  (BALANCE_M(zo, peer) >= zt)
#endif
#define TAKES(zo, zt)  (ACCEPTING && N(peer) < NM && T(peer) + zt <= 3 && ho <= zo && zo <= own && GOOD(zo, zt))

#define BEYOND(zo, zr, yo, yr)  (N(zr) > N(yr) || (N(zr) == N(yr) && zo > yo))
#define SEQ(zo, zr)     (zo + N(zr))

/* REESTABLISH shows STATE(zr, zo) of M; H answers with its own. */
inline reestablish(zo, zr) {
    if
#ifdef M_BY_SEQ
    :: SEQ(zo, zr) > SEQ(ho, hp) && N(zr) <= N(peer) -> ho = zo; hp = zr
    :: SEQ(zo, zr) > SEQ(ho, hp) && N(zr) > N(peer) && (ep == NONE || SEQ(zo, zr) > SEQ(eo, ep)) -> eo = zo; ep = zr
#else
    :: zr == peer && !BEYOND(ho, hp, zo, zr) -> hold(zo, zr)
    :: zr != peer && N(zr) > 0 && BEYOND(zo, zr, ho, hp) && (ep == NONE || BEYOND(zo, zr, eo, ep)) ->
        eo = zo; ep = zr; told = 0
#endif
    :: else -> skip
    fi;
    if :: phase < CLOSING -> sign() :: else fi
}
#define SHOWABLE(zo, zr)  (phase < SETTLED && zo <= own && (N(zr) != N(peer) || zr == peer))

inline read() {
    rD[0] = D[0]; rD[1] = D[1]; rW[0] = W[0]; rW[1] = W[1];
    if :: wm && (W[M] >= wm || now > wmexp) -> wm = 0; wmexp = 0 :: else fi;
    if :: wh && (W[H] >= wh || now > whexp) -> wh = 0; whexp = 0 :: else fi
}
#define UNREAD  (rD[0] != D[0] || rD[1] != D[1] || rW[0] != W[0] || rW[1] != W[1] || \
                 (wm && now > wmexp) || (wh && now > whexp))

/* --- The ledger ------------------------------------------------------------------------------------------------- */

inline join_half(p, zn, zt) {
#ifdef M_LAST_WINS
    LN[p] = zn; LT[p] = zt;
#else
#ifdef M_T_NOT_MAX
    if :: zn >= LN[p] -> LN[p] = zn; LT[p] = zt :: else fi;
#else
    LN[p] = MAX(zn, LN[p]);
    LT[p] = MAX(zt, LT[p]);
#endif
#endif
    skip
}

inline join(zo, zr) {
    x = N(zr); y = T(zr);
    join_half(M, x, y);
    join_half(H, zo, zo)
}

inline share1() {
    x = 0;
    if :: D[1] + LT[0] > W[1] + LT[1] -> x = D[1] + LT[0] - W[1] - LT[1] :: else fi;
    if :: x > POT -> x = POT :: else fi
}

inline pay_out() {
    printf("--- the ledger pays out (%d, %d), H holds (%d, %d)\n", LT[0], LT[1], own, T(peer));
    share1();
    y = (H == 1 -> x : POT - x);
    MUST(9, W[0] + W[1] + x <= D[0] + D[1]);
    MUST(8, y + W[H] + own >= D[H] + T(peer));
    status = SETTLED;
    shown = 0
}

inline state_at_ledger(zo, zr) {
    printf("M submits H's %d, its own (%d, %d)\n", zo, N(zr), T(zr));
    MUST(10, status == OPEN || now < deadline);
    join(zo, zr);
#ifdef M_STATE_SETTLES
    pay_out()
#else
    dispute()
#endif
}

inline dispute() { if :: status == OPEN -> status = CLOSING; deadline = now + WINDOW :: else fi }

#ifdef M_LATE_RESPOND
#define DISPUTABLE  (status != SETTLED)
#else
#define DISPUTABLE  (status == OPEN || (status == CLOSING && now < deadline))
#endif
#ifdef M_EXPIRED_WITHDRAW
#define IN_TIME(e)  true
#else
#define IN_TIME(e)  (now <= e)
#endif

/* What H has to show: more than the ledger knows (spec X-5). */
#define MORE(zo, zr)  (zo > LN[H] || N(zr) > LN[M] || T(zr) > LT[M])
#ifdef M_EVIDENCE_ALONE
#define BACKED      (ep == NONE)
#else
#define BACKED      true
#endif
#define NEWS        ((BACKED && MORE(ho, hp)) || (ep != NONE && MORE(eo, ep)))
#define ANSWERED    (phase == CLOSING && (told || !NEWS))

inline submit() {
    printf("H submits its own %d, M's (%d, %d)\n", ho, N(hp), T(hp));
    told = 1;
    if :: BACKED -> join(ho, hp) :: else fi;
    if :: ep != NONE -> join(eo, ep) :: else fi
}

inline claim(zo, zr) {          /* one_way: party 1 is paid what it has */
    join(zo, zr);
    share1();
    W[1] = W[1] + x
}

/* --- Who moves -------------------------------------------------------------------------------------------------- */

#ifdef ONEWAY
#define PAYS(p)  (p == 0)
#else
#define PAYS(p)  true
#endif

proctype honest() {
end:
    do
    :: d_step { PAYS(H) && phase == OPEN && own < NH && BALANCE_H(own, peer) >= 1 -> printf("H pays\n"); pay() }
    :: d_step { UNREAD && phase < SETTLED -> printf("H reads\n"); read() }
#ifdef ASK
    :: d_step { phase == OPEN && wh == 0 && BALANCE_H(own, peer) >= 1 && rW[H] < 2 ->
                wh = rW[H] + 1; whexp = now + LIFE; agh = wh; aghexp = whexp; printf("H asks to withdraw %d\n", wh) }
#endif
#ifdef M_HOLD_BY_CLOCK
    :: d_step { wm && now > wmexp -> printf("H drops the hold\n"); wm = 0; wmexp = 0 }
#endif
#ifdef TOGETHER
    :: d_step { phase == OPEN -> phase = SHUT }
    :: d_step { (phase == SHUT || (phase == FINALED && finalexp < now)) && ho == own && hp == peer && now < TICKS ->
                printf("H signs FINAL\n");
                phase = FINALED; final = peer; finalown = own; finalexp = now + LIFE }
#endif
    :: d_step { phase < CLOSING -> printf("H closes alone\n"); phase = CLOSING; force = 1 }
    :: d_step { phase == CLOSING && force && status == OPEN ->
                submit();
                dispute();
#ifdef ONEWAY
                if :: H == 1 -> pay_out() :: else fi
#endif
                skip }
    :: d_step { phase < CLOSING && status == CLOSING -> printf("H sees the dispute\n"); phase = CLOSING }
    :: d_step { phase == CLOSING && status == CLOSING && now < deadline && NEWS -> submit() }
#ifdef ONEWAY
    :: d_step { H == 1 && status == OPEN && phase <= SHUT && N(hp) > LN[M] -> printf("H claims\n"); claim(ho, hp) }
#endif
    :: d_step { status == SETTLED && phase < SETTLED -> phase = SETTLED }
    od
}

#define SENDS(zo, zt)  d_step { PAYS(M) && TAKES(zo, zt) -> \
            printf("M pays %d over H's %d\n", zt, zo); receive_pay(zo, zt); skip }
#define SHOWS(zo, zr)  d_step { SHOWABLE(zo, zr) && (PAYS(M) || zr == 0) -> \
            printf("M shows H's %d, its own (%d, %d)\n", zo, N(zr), T(zr)); reestablish(zo, zr); skip }
#ifdef ONEWAY
#define CLAIMS(zo, zr) \
    :: d_step { M == 1 && DISPUTABLE && ((shown >> (7 * zo + zr)) & 1) && zo > LN[H] -> \
            printf("M claims on H's %d\n", zo); claim(zo, zr); skip } \
    :: d_step { M == 1 && DISPUTABLE && ((shown >> (7 * zo + zr)) & 1) -> \
            printf("M closes with H's %d: settled at once\n", zo); join(zo, zr); pay_out() }
#else
#define CLAIMS(zo, zr)
#endif
#define SUBMITS(zo, zr) d_step { DISPUTABLE && ((shown >> (7 * zo + zr)) & 1) && \
                                 (status == OPEN || MORE(zo, zr) || ALWAYS) -> \
            state_at_ledger(zo, zr); skip } \
        CLAIMS(zo, zr)
#ifdef M_LAST_WINS
#define ALWAYS true
#else
#define ALWAYS false            /* what is not newer changes nothing */
#endif

proctype adversary() {
end:
    do
    :: SENDS(0, 1) :: SENDS(0, 2) :: SENDS(1, 1) :: SENDS(1, 2) :: SENDS(2, 1) :: SENDS(2, 2)
#ifndef NOSHOW
    :: SHOWS(0, 0) :: SHOWS(0, 1) :: SHOWS(0, 2) :: SHOWS(0, 3) :: SHOWS(0, 4) :: SHOWS(0, 5) :: SHOWS(0, 6)
    :: SHOWS(1, 0) :: SHOWS(1, 1) :: SHOWS(1, 2) :: SHOWS(1, 3) :: SHOWS(1, 4) :: SHOWS(1, 5) :: SHOWS(1, 6)
    :: SHOWS(2, 0) :: SHOWS(2, 1) :: SHOWS(2, 2) :: SHOWS(2, 3) :: SHOWS(2, 4) :: SHOWS(2, 5) :: SHOWS(2, 6)
#else                           /* M's ACK of all, and no evidence */
    :: d_step { phase <= SHUT && PAYS(M) && ho < own -> printf("M acknowledges %d\n", own); hold(own, peer); skip }
#endif
    /* Close or respond, with any STATE that H ever signed. */
    :: SUBMITS(0, 0) :: SUBMITS(0, 1) :: SUBMITS(0, 2) :: SUBMITS(0, 3) :: SUBMITS(0, 4) :: SUBMITS(0, 5)
    :: SUBMITS(0, 6) :: SUBMITS(1, 0) :: SUBMITS(1, 1) :: SUBMITS(1, 2) :: SUBMITS(1, 3) :: SUBMITS(1, 4)
    :: SUBMITS(1, 5) :: SUBMITS(1, 6) :: SUBMITS(2, 0) :: SUBMITS(2, 1) :: SUBMITS(2, 2) :: SUBMITS(2, 3)
    :: SUBMITS(2, 4) :: SUBMITS(2, 5) :: SUBMITS(2, 6)
    :: d_step { status == OPEN -> printf("M closes with no state\n"); dispute() }
#ifdef TOPUP
    :: d_step { status != SETTLED && D[M] == DM -> printf("a top-up for M\n"); D[M]++ }
    :: d_step { status != SETTLED && D[H] == DH -> printf("a top-up for H\n"); D[H]++ }
#endif
#ifdef WITHDRAW
    /* M asks, H consents (spec X-8); anybody with both signatures has it executed in time. */
    :: d_step { phase == OPEN && wm == 0 && rW[M] < 1 && BALANCE_M(own, peer) + KNOWN_WM >= 1 ->
                printf("H consents to 1 for M\n"); wm = 1; wmexp = now + LIFE; agm = wm; agmexp = wmexp }
    :: d_step { phase == OPEN && wm == 0 && rW[M] < 2 && BALANCE_M(own, peer) + KNOWN_WM >= 2 ->
                printf("H consents to 2 for M\n"); wm = 2; wmexp = now + LIFE; agm = wm; agmexp = wmexp }
    :: d_step { status != SETTLED && agm > W[M] && IN_TIME(agmexp) && agm - W[M] <= POT ->
                printf("the ledger pays W_M = %d\n", agm); W[M] = agm }
#endif
#ifdef ASK
    :: d_step { status != SETTLED && agh > W[H] && IN_TIME(aghexp) && agh - W[H] <= POT ->
                printf("the ledger pays W_H = %d\n", agh); W[H] = agh }
    :: d_step { wh && phase == OPEN -> printf("M says NO\n"); wh = 0; whexp = 0; lied = 1 }
#endif
#ifdef TOGETHER
    :: d_step { final != NONE && status != SETTLED && now <= finalexp ->
                printf("M submits FINAL\n"); join(finalown, final); pay_out() }
#endif
    od
}

/* Time passes, but no window ends before H, who looks at the ledger in time, has answered. */
proctype clock() {
    do
    :: d_step { (status == OPEN && now < TICKS) ||
                (status == CLOSING && now < deadline && (now + 1 < deadline || ANSWERED)) ->
                printf("tick\n"); now++ }
    :: d_step { status == CLOSING && now >= deadline && phase >= CLOSING -> pay_out() }
#ifdef OUTAGE
    :: d_step { status == CLOSING && !away && now < deadline ->
                printf("the ledger was away\n");
                away = 1;
                now = deadline;
#ifndef M_OUTAGE_EATS_WINDOW
                deadline = now + 1;
#endif
                if :: phase < CLOSING -> phase = CLOSING :: else fi }
#endif
    :: status == SETTLED -> break
    od
}

init {
    d_step { D[H] = DH; D[M] = DM; rD[H] = DH; rD[M] = DM; shown = 1 }
    atomic { run honest(); run adversary(); run clock() }
}
