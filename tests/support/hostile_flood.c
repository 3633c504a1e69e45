/* hostile_flood.c -- the modes of T.hostile_ssh that need no command: packets nobody asked for, in numbers, and packets that are wrong inside.
 *
 *   many_banners       lines to be shown to the user before he is let in, without end
 *   flood_requests     global requests that want an answer      flood_adjusts   room for input nobody asked for
 *   flood_ignored      messages to be ignored, 32 KiB each      flood_channels  channels the server would open
 *   other_channel      data for channels that do not exist      ignores_window  data without end, whatever the window
 *   bad_length         a string that claims more bytes than its packet has
 *   truncated          half a packet, then the end              disconnects     good-bye, in words with escape sequences
 *
 * All but the first come instead of the command's first output. Numbers end at `size` packets (0: never). */
#include "hostile_wire.h"

#include <poll.h>
#include <string.h>
#include <unistd.h>

enum { BLOCK = 30000 };

static const char odd[] = "\033]0;owned\007\033[2J\033]52;c;aGk=\007\xff\xfe\xe2\x80\xae\r\b<b>";

static neap_packet of_type(uint8_t type) { return (neap_packet){.data = {type}, .len = 1}; }

/* One packet of the kind; false when the mode is none of these. */
static bool make(const char *mode, uint32_t channel, uint32_t number, neap_packet *p) {
    static char block[BLOCK];
    memset(block, 'x', sizeof block);
    if (strcmp(mode, "many_banners") == 0) {
        *p = of_type(53);
        neap_put_text(p, odd);
        neap_put_text(p, "");
    } else if (strcmp(mode, "flood_requests") == 0) {
        *p = of_type(80);
        neap_put_text(p, "keepalive@openssh.com");
        neap_put_byte(p, 1);
    } else if (strcmp(mode, "flood_adjusts") == 0) {
        *p = of_type(93);
        neap_put_u32(p, channel);
        neap_put_u32(p, 0xffffffff);
    } else if (strcmp(mode, "flood_ignored") == 0) {
        *p = of_type(2);
        neap_put_string(p, block, sizeof block);
    } else if (strcmp(mode, "flood_channels") == 0) {
        *p = of_type(90);
        neap_put_text(p, "forwarded-tcpip");
        for (int i = 0; i < 3; i++) neap_put_u32(p, number);
        neap_put_text(p, "127.0.0.1");
        neap_put_u32(p, 22);
        neap_put_text(p, "127.0.0.1");
        neap_put_u32(p, 22);
    } else if (strcmp(mode, "other_channel") == 0) {
        *p = of_type(94);
        neap_put_u32(p, channel + 1 + number % 1000);
        neap_put_string(p, block, sizeof block);
    } else if (strcmp(mode, "ignores_window") == 0) {
        *p = of_type(94);
        neap_put_u32(p, channel);
        neap_put_string(p, block, sizeof block);
    } else return false;
    return true;
}

void neap_hostile_flood(neap_wire *w, const char *mode, uint32_t channel, int64_t size) {
    static neap_packet p;
    uint32_t number = 0;
    if (strcmp(mode, "bad_length") == 0) {
        p = of_type(94);
        neap_put_u32(&p, channel);
        neap_put_u32(&p, 0xfffffff0);
        neap_put_byte(&p, 'x');
        neap_wire_send(w, &p);
        for (;;) pause();
    }
    if (strcmp(mode, "truncated") == 0) {
        neap_wire_raw(w, "\x11\x22\x33\x44\x55\x66\x77\x88\x99", 9);
        _exit(0);
    }
    if (strcmp(mode, "disconnects") == 0) {
        p = of_type(1);
        neap_put_u32(&p, 2);
        neap_put_text(&p, odd);
        neap_put_text(&p, "");
        neap_wire_send(w, &p);
        _exit(0);
    }
    while (make(mode, channel, number, &p)) {
        if (size && number >= size) return;
        neap_wire_send(w, &p);
        number++;
        while (neap_wire_is_ready(w, 0)) neap_wire_read(w, &p), w->on_packet(w->arg, &p);
    }
}
